package row

type RowKey struct {
	EncryptedKMSKey Key `gorm:"column:encrypted_kms_key" json:"-"`
}

type Key struct{ state *int }

type Secret[T any] struct {
	box any `gorm:"serializer:rowseal"`
}

type Context struct {
	Columns []string
	OmitID  bool
}
