// Package generated has what gorm's command line tool writes for package clinic.
package generated

import "gorm.io/cli/gorm/field"

var Patient = struct{ Ward, Name field.String }{
	Ward: field.String{}.WithColumn("ward"),
	Name: field.String{}.WithColumn("name"),
}

var Log = struct{ Name field.String }{Name: field.String{}.WithColumn("name")}
