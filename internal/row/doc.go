// Package row is where a field and a key become a row. It knows which fields of a model are sealed under which key column
// ([Plan]), binds that to a keyring ([Model]), keeps what is known of each row's key in the row's own struct ([State]), and does
// the sealing and opening. It touches GORM only through its schema: which statements run, and when, is the business of its
// callers, the plugin, rotation and migrations.
package row
