package tags // want package:"models Account:accounts .*"

import "github.com/rowseal/rowseal"

type Account struct {
	ID       uint64
	Name     string                 `gorm:"serializer:rowseal"`
	Mail     string                 `gorm:"serializer:rowseal" rowseal:"name=email, json"`
	Missing  string                 `rowseal:"text"`                                // want `field Missing has a rowseal tag but would be stored in plaintext; add gorm:"serializer:rowseal"`
	Empty    string                 `gorm:"size:10" rowseal:""`                     // want `field Empty has a rowseal tag but would be stored in plaintext`
	British  string                 `gorm:"serialiser:rowseal"`                     // want `field British would be stored in plaintext: "serialiser:rowseal" is no setting that seals; write gorm:"serializer:rowseal"`
	Value    string                 `gorm:"column:v;serializer:rowsael"`            // want `field Value would be stored in plaintext: "serializer:rowsael"`
	Equals   string                 `gorm:"serializer=rowseal" rowseal:"text"`      // want `field Equals would be stored in plaintext: "serializer=rowseal"`
	Bare     string                 `gorm:"rowseal"`                                // want `field Bare would be stored in plaintext: "rowseal"`
	OwnKey   string                 `serializer:"rowseal"`                          // want `field OwnKey would be stored in plaintext: serializer:"rowseal"`
	Other    string                 `gorm:"serializer:json" rowseal:"json"`         // want `field Other has a rowseal tag and another serializer`
	Unknown  string                 `gorm:"serializer:rowseal" rowseal:"txt"`       // want `field Unknown: tag rowseal: unknown word "txt"; the words are key=Field, name=logical, json, text, index and unique`
	Wrong    string                 `gorm:"serializer:rowseal" rowseal:"key=Phone"` // want `model Account, field Wrong: key=Phone names no field of type rowseal.Key in this struct or around it`
	Right    string                 `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Trailing string                 `gorm:"size:10;" rowseal:"text"`       // want `field Trailing has a rowseal tag but would be stored in plaintext`
	Quoted   string                 "rowseal:\"text\""                     // want `field Quoted has a rowseal tag but would be stored in plaintext`
	Swapped  string                 `rowseal:"text" gorm:"rowseal;size:9"` // want `field Swapped would be stored in plaintext: "rowseal"`
	Both     string                 `gorm:"size:9" serializer:"rowseal"`   // want `field Both would be stored in plaintext: serializer:"rowseal"`
	Secret   rowseal.Secret[string] `rowseal:"name=old"`
	Plain    string                 `gorm:"serializer:json"`
	Comment  string                 `gorm:"comment:sealed by rowseal elsewhere;column:rowseal"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" rowseal:"name=phone"`
}

type Keyless struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"` // want `model Keyless has sealed fields and no key column; embed rowseal.RowKey`
	Mail string `gorm:"serializer:rowseal"`
}

type Ambiguous struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"` // want `model Ambiguous, field Name: several keys fit \(A, B\); choose one, as in rowseal:"key=A"`
	A, B rowseal.Key
}

// Part is embedded where a key is.
type Part struct {
	Email string `gorm:"serializer:rowseal"`
}

// Base has an id, and is embedded.
type Base struct {
	ID    uint64
	Email string `gorm:"serializer:rowseal"`
}

type Whole struct {
	Base
	Part Part `gorm:"embedded;embeddedPrefix:part_"`
	rowseal.RowKey
}

func local() {
	type Draft struct {
		ID   uint64
		Text string `gorm:"serializer:rowseal"` // want `model Draft has sealed fields and no key column`
	}
	_ = Draft{}
}
