package kmskey

import "errors"

// ErrShredded: the data key was destroyed on purpose, and with it what was sealed under it. No call was made.
var ErrShredded = errors.New("shredded on purpose, and gone for good")
