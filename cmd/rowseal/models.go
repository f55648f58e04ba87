// models.go owns what the tool is told of an application's models: by its manifest, or flag by flag.

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rowseal/rowseal/rotation"
)

// modelFlags name models.
type modelFlags struct {
	Manifest string   `env:"ROWSEAL_MANIFEST" placeholder:"FILE" help:"What the application says of its models: rowseal.Manifest(db), written to a file."`
	Model    []string `sep:"none" placeholder:"NAME" help:"A model of the manifest, by its logical name or its table; all where none is given. Repeatable."`

	Table         string   `group:"Without a manifest, one model" placeholder:"NAME" help:"Its table."`
	Name          string   `group:"Without a manifest, one model" placeholder:"NAME" help:"Its logical name: rowseal.Model.Name, else that of the Go type."`
	ID            []string `group:"Without a manifest, one model" name:"id" sep:"none" placeholder:"COLUMN:KIND" help:"A column of its primary key, in order; kinds are integer, text, uuid, bytes and bool, as the application holds it. Repeatable."`
	KeyColumn     []string `group:"Without a manifest, one model" sep:"none" placeholder:"COLUMN" default:"encrypted_kms_key" help:"A key column, with =NAME behind it where its logical name is another. Repeatable. Default: encrypted_kms_key."`
	ContextColumn []string `group:"Without a manifest, one model" sep:"none" placeholder:"COLUMN:KIND" help:"A column of its encryption context. Repeatable."`
	Namespace     string   `group:"Without a manifest, one model" placeholder:"NAME" help:"The keyring's namespace."`
}

// manifest reads the manifest, or makes one of the flags for the given versions.
func (f modelFlags) manifest(versions func() (map[int]rotation.ManifestVersion, error)) (*rotation.Manifest, error) {
	byHand := f.Table != "" || f.Name != "" || len(f.ID) > 0 || len(f.ContextColumn) > 0 || f.Namespace != ""
	switch {
	case f.Manifest == "" && !byHand:
		return nil, usage("--manifest is missing: in the application, write what rowseal.Manifest(db) gives to a file; or describe one model by --table, --name and --id")
	case f.Manifest != "" && byHand:
		return nil, usage("--manifest has all of --table, --name, --id, --context-column and --namespace; leave them out")
	case f.Manifest != "":
		text, err := os.ReadFile(f.Manifest)
		if err != nil {
			return nil, usage("--manifest: %v", err)
		}
		m, err := rotation.ParseManifest(text)
		if err != nil {
			return nil, usage("--manifest %s: %v", f.Manifest, err)
		}
		return m, nil
	}
	if f.Table == "" || f.Name == "" || len(f.ID) == 0 {
		return nil, usage("without --manifest, --table, --name and --id are needed")
	}
	columns := func(flag string, texts []string) (out []map[string]string, err error) {
		for _, text := range texts {
			column, kind, ok := strings.Cut(text, ":")
			if !ok {
				return nil, usage("%s %q: expected a column and its kind, as in tenant_id:uuid", flag, text)
			}
			out = append(out, map[string]string{"column": column, "kind": kind})
		}
		return out, nil
	}
	ids, err := columns("--id", f.ID)
	if err != nil {
		return nil, err
	}
	context, err := columns("--context-column", f.ContextColumn)
	if err != nil {
		return nil, err
	}
	var keys []map[string]string
	for _, text := range f.KeyColumn {
		column, name, ok := strings.Cut(text, "=")
		if !ok {
			name = column
		}
		keys = append(keys, map[string]string{"column": column, "name": name})
	}
	known, err := versions()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"format": 1, "namespace": f.Namespace, "versions": known, "models": []any{
		map[string]any{"name": f.Name, "table": f.Table, "primary_key": ids, "keys": keys, "context": map[string]any{"columns": context}}}})
	if err != nil {
		return nil, fmt.Errorf("describe the model: %w", err)
	}
	m, err := rotation.ParseManifest(text)
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "; export it anew")
		return nil, usage("the flags of the model: %s", strings.TrimPrefix(reason, "rowseal: manifest: "))
	}
	return m, nil
}

// choose gives the models that were asked for.
func (f modelFlags) choose(m *rotation.Manifest) ([]*rotation.ManifestModel, error) {
	if len(f.Model) == 0 {
		return m.Models, nil
	}
	var out []*rotation.ManifestModel
	for _, name := range f.Model {
		model, err := m.Model(name)
		if err != nil {
			return nil, usage("--model %q: the manifest has %s", name, strings.Join(m.Names(), ", "))
		}
		if !slices.Contains(out, model) {
			out = append(out, model)
		}
	}
	return out, nil
}
