// manifest.go owns what the plugin tells programs that rotate keys without the application's Go types.

package rowseal

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
)

// Manifest describes the models of the plugin on db, in JSON: tables, primary keys, key columns and encryption contexts, the namespace, and the numbers of
// key versions with their constants. There is no secret in it, and no row. With it `rowseal rotate` and rotation.ParseManifest move keys without the
// application. It is the same for the same models and keyring, so that it can be checked in and compared; write it anew when these change.
//
// A model that nothing but the application can rotate says so in it: one with a KMSContext method, say.
func Manifest(db *gorm.DB) ([]byte, error) {
	p, ok := db.Plugins[row.PluginName].(*Plugin)
	if !ok {
		return nil, fmt.Errorf("rowseal: manifest: %w; call db.Use(plugin) first", ErrNoPlugin)
	}
	var models []*row.Model
	for _, m := range p.models {
		if len(m.Plan.Groups) > 0 {
			models = append(models, m)
		}
	}
	if len(models) == 0 {
		return nil, fmt.Errorf("rowseal: manifest: %w: none is registered; list them in rowseal.Config.Models", ErrModel)
	}
	return row.NewManifest(p.keys, models).JSON(), nil
}
