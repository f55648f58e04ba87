// Package rowseal is field-level encryption for GORM.
package rowseal
