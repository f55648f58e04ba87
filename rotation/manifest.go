// manifest.go owns rotations without the application's binary: models read from the manifest that it exports.

package rotation

import "github.com/rowseal/rowseal/internal/row"

// Manifest is what an application's plugin knows of its models, without secrets: rowseal.Manifest(db) exports it.
type Manifest = row.Manifest

// ManifestModel is one model of a [Manifest]. It takes the place of a pointer to the model's struct in [RotateKMSKey], [Status] and [Plan], with
// [Config].Keys. Runs are the same: what an application began goes on here, and the other way round.
//
// Some models need the application: those whose context is computed by a method, or whose key columns have Go types that change what they store. They
// are refused, and say so in Only; Status counts them all the same.
type ManifestModel = row.ManifestModel

// ManifestVersion is a version of the application's keyring.
type ManifestVersion = row.ManifestVersion

// ParseManifest reads a manifest, and refuses what it does not know.
func ParseManifest(text []byte) (*Manifest, error) { return row.ParseManifest(text) }
