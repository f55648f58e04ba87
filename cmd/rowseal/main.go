// Rowseal is the command line tool: it prints policies for the keys of a service that uses Rowseal, makes those keys, moves rows to
// new ones, and says which columns a blind index would give away.
//
//	go install github.com/rowseal/rowseal/cmd/rowseal@latest
//	rowseal policy aws --role writer --key arn:aws:kms:eu-central-1:111122223333:key/… --model Patient
//	rowseal provision aws --app clinic --env production --region eu-central-1 --dry-run
//	rowseal index advise --table patients --column email
//	rowseal rotate --manifest rowseal.json --key 1=awskms:arn:… --key 2=awskms:arn:… --current 2
//
// Results go to standard output and all else to standard error. It ends with 0, with 1 where something failed or is not as it should
// be, and with 2 where it was called wrongly. A rotation also ends with 3 where it is done but for some rows, with 4 where it is paused, and with 5
// where a signal stopped it. Credentials and regions come from the AWS SDK's default chain. What each role may do, and
// what its policy does not give, is in docs/operations.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// commands is the tool's verbs, each in a file of its own.
type commands struct {
	Policy    policyCommand    `cmd:"" help:"Print least-privilege policies for writers, readers, rotators, applications and administrators."`
	Provision provisionCommand `cmd:"" help:"Make a key, its alias and its policy, or say what is missing."`
	Index     indexCommand     `cmd:"" help:"Advise on blind indexes."`

	Rotate  rotateCommand  `cmd:"" group:"Rotation" help:"Move the keys of whole tables to another key, version or context, while the application runs."`
	Status  statusCommand  `cmd:"" group:"Rotation" help:"Count the rows under each version and key."`
	Verify  verifyCommand  `cmd:"" group:"Rotation" help:"Open rows for nobody to see: every key must unwrap, and every field authenticate."`
	Runs    runsCommand    `cmd:"" group:"Rotation" help:"List rotations, the latest first."`
	Report  reportCommand  `cmd:"" group:"Rotation" help:"Print what became of a rotation."`
	Pause   pauseCommand   `cmd:"" group:"Rotation" help:"Stop a rotation, wherever it runs, until it is resumed."`
	Resume  resumeCommand  `cmd:"" group:"Rotation" help:"Let a paused rotation go on."`
	Cancel  cancelCommand  `cmd:"" group:"Rotation" help:"End a rotation for good. What was moved stays so."`
	Migrate migrateCommand `cmd:"" group:"Rotation" help:"Make, remove or show the tables that rotations keep their place in."`
}

// app is what a verb may touch of the process.
type app struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	sleep  func(ctx context.Context, d time.Duration) error
}

// usageError is a mistake of whoever called.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitError ends with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(&app{ctx: ctx, stdout: os.Stdout, sleep: sleep}, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// helped is kong's wish to end the process, once help is printed.
type helped int

func run(a *app, args []string, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			status, ok := r.(helped)
			if !ok {
				panic(r)
			}
			code = int(status)
		}
	}()
	a.stderr = stderr
	var c commands
	parser, err := kong.New(&c,
		kong.Name("rowseal"),
		kong.Description("Keys, their policies and their rotation, for services that use Rowseal."),
		kong.Writers(a.stdout, stderr),
		kong.Exit(func(status int) { panic(helped(status)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
	if err != nil {
		panic("rowseal: internal error: " + err.Error())
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		command := "rowseal"
		if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil && p.Context.Selected() != nil {
			command = p.Context.Selected().FullPath()
		}
		fmt.Fprintf(stderr, "%s: %v\nSee %s --help\n", command, err, command)
		return 2
	}
	err = parsed.Run(a)
	command := parsed.Selected().FullPath()
	if u, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(stderr, "%s: %v\nSee %s --help\n", command, u, command)
		return 2
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", command, err)
		if e, ok := errors.AsType[*exitError](err); ok {
			return e.code
		}
		return 1
	}
	return 0
}
