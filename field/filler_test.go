package field_test

import (
	"errors"
	"testing"

	"github.com/rowseal/rowseal/field"
)

// TestFiller: it passes for a sealed field at a CHECK, and nowhere else.
func TestFiller(t *testing.T) {
	filler := field.Filler()
	if len(filler) != field.Overhead || filler[0] != field.FirstByte || !field.IsFiller(filler) {
		t.Errorf("% x", filler)
	}
	if _, err := field.KeyID(filler); !errors.Is(err, field.ErrUnknownSuite) {
		t.Errorf("it names a key: %v", err)
	}
	if text := field.AppendText(nil, filler); len(text) != 47 {
		t.Errorf("%d characters", len(text))
	}
	filler[5] = 1
	if field.IsFiller(filler) || !field.IsFiller(field.Filler()) || field.IsFiller(nil) {
		t.Error("another value is taken for it")
	}
}
