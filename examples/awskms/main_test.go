package main

import (
	"errors"
	"strings"
	"testing"
)

// The run itself needs Postgres: integration/examples_test.go.
func TestRun_refuses(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		url  string
		says string
	}{
		{"no database", nil, "", "DATABASE_URL is not set; set it to a Postgres database, for instance postgres://"},
		{"a database that is no URL", []string{"-fake"}, "postgres://u:hunter2@[/", "DATABASE_URL: "},
		{"an unknown flag", []string{"-real"}, "postgres://localhost/app", "flag provided but not defined: -real"},
	} {
		t.Run(c.name, func(t *testing.T) {
			getenv := func(name string) string { return map[string]string{"DATABASE_URL": c.url}[name] }
			var out strings.Builder
			err := run(t.Context(), c.args, getenv, &out)
			if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}
