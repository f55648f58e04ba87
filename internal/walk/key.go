// key.go owns primary keys on their way: from the driver into the ledger and back into conditions, without change of type.

package walk

import (
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Key is the primary key of a row, part by part, as the driver takes it.
type Key []driver.Value

// part is one value in JSON. The type is written down: the integer 1 and the text "1" are two places in a table.
type part struct {
	Int   *string `json:"i,omitempty"`
	Text  *string `json:"s,omitempty"`
	Raw   *string `json:"r,omitempty"` // text that is not UTF-8, hexadecimal
	Bytes *string `json:"x,omitempty"` // hexadecimal
	Bool  *bool   `json:"b,omitempty"`
	Float *string `json:"f,omitempty"`
	Time  *string `json:"t,omitempty"`
}

// String is the key as the ledger holds it: a JSON array.
func (k Key) String() string {
	parts := make([]part, len(k))
	for i, v := range k {
		var p part
		switch v := v.(type) {
		case int64:
			p.Int = new(strconv.FormatInt(v, 10))
		case uint64:
			p.Int = new(strconv.FormatUint(v, 10))
		case string:
			if p.Text = &v; !utf8.ValidString(v) {
				p.Text, p.Raw = nil, new(hex.EncodeToString([]byte(v)))
			}
		case []byte:
			p.Bytes = new(hex.EncodeToString(v))
		case bool:
			p.Bool = &v
		case float64:
			p.Float = new(strconv.FormatFloat(v, 'g', -1, 64))
		case time.Time:
			p.Time = new(v.Format(time.RFC3339Nano))
		}
		parts[i] = p
	}
	b, err := json.Marshal(parts)
	if err != nil {
		panic("walk: internal error: a key that is no JSON: " + err.Error())
	}
	return string(b)
}

// Display is the key for people: 42, or acme/7.
func (k Key) Display() string {
	s := ""
	for i, v := range k {
		if i > 0 {
			s += "/"
		}
		if b, ok := v.([]byte); ok {
			v = "0x" + hex.EncodeToString(b)
		}
		s += fmt.Sprint(v)
	}
	return s
}

// ParseKey reverses [Key.String].
func ParseKey(text string) (Key, error) {
	var parts []part
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return nil, fmt.Errorf("walk: a primary key in the ledger: %w", err)
	}
	k := make(Key, len(parts))
	for i, p := range parts {
		var err error
		switch {
		case p.Int != nil:
			k[i], err = parseInt(*p.Int)
		case p.Text != nil:
			k[i] = *p.Text
		case p.Raw != nil:
			var raw []byte
			raw, err = hex.DecodeString(*p.Raw)
			k[i] = string(raw)
		case p.Bytes != nil:
			k[i], err = hex.DecodeString(*p.Bytes)
		case p.Bool != nil:
			k[i] = *p.Bool
		case p.Float != nil:
			k[i], err = strconv.ParseFloat(*p.Float, 64)
		case p.Time != nil:
			k[i], err = time.Parse(time.RFC3339Nano, *p.Time)
		default:
			err = fmt.Errorf("part %d has no value", i+1)
		}
		if err != nil {
			return nil, fmt.Errorf("walk: a primary key in the ledger: %w", err)
		}
	}
	return k, nil
}

func parseInt(s string) (driver.Value, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// Normal is v as a Key holds it: the six types of drivers, and unsigned integers that no int64 holds.
func Normal(v any) (driver.Value, error) {
	switch v := v.(type) {
	case uint64:
		if v > math.MaxInt64 {
			return v, nil
		}
		return int64(v), nil
	case []byte:
		return append([]byte(nil), v...), nil
	case nil:
		return nil, fmt.Errorf("walk: a primary key is NULL")
	}
	d, err := driver.DefaultParameterConverter.ConvertValue(v)
	if err == nil && d == nil {
		err = fmt.Errorf("walk: a primary key is NULL")
	}
	return d, err
}
