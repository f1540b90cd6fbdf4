// SPDX-License-Identifier: GPL-3.0-or-later

// Command hyperion-vault is a secrets vault for replicated PostgreSQL: the node
// that runs beside each server of a cluster, and the tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1 // what was asked for could not be done
	exitUsage = 2 // a flag, an argument or a setting is wrong
	exitBlind = 3 // what was to be judged could not be read

	// exitConfig is exitUsage of serve, by which systemd gives up: 2 is also the end of a Go
	// program that crashes. It is EX_CONFIG of sysexits.h.
	exitConfig = 78
)

// commands is the table of all that can be asked for.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the node beside a PostgreSQL server."`
	Dev     devCommand     `cmd:"" help:"Run a scratch PostgreSQL with a node, to try things; everything is removed at the end, unless --dir names a place."`
	Init    initCommand    `cmd:"" help:"Prepare a cluster: extension, vault id, service role, first admin token. May be run again."`
	Token   tokenCommand   `cmd:"" help:"Make, list and revoke tokens of REST."`
	Get     getCommand     `cmd:"" help:"Print a secret's value, by REST."`
	Put     putCommand     `cmd:"" help:"Give a secret a value, by REST; make the secret if there is none."`
	Ls      lsCommand      `cmd:"" help:"List names of secrets, by REST."`
	Status  statusCommand  `cmd:"" help:"Say how the node of this host is and what it sees of the cluster, and with --sessions whom it serves."`
	Flush   flushCommand   `cmd:"" help:"Have the node of this host forget its data keys: each is asked of the KMS again."`
	Audit   auditCommand   `cmd:"" help:"Verify, export and show the audit."`
	Prove   proveCommand   `cmd:"" help:"Send random values through all doors of a node, and look for them in what the servers and nodes of a cluster have written. Exit code 0: none is there; 1: some are; 2: a flag is wrong; 3: not all could be looked at, so nothing is proved."`
	Version versionCommand `cmd:"" help:"Print the version and how it was built."`
}

// streams are what a command may read and write.
type streams struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
}

func main() {
	ctx, stop := untilSignal()
	code := run(ctx, os.Args[1:], &streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()})
	stop()
	os.Exit(code)
}

// untilSignal ends the context at the first SIGINT or SIGTERM; the second ends
// the process at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the root of all
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "hyperion-vault: second signal, ending at once")
		os.Exit(exitFault)
	}()
	return ctx, cancel
}

// errReported is a failure that was told already.
var errReported = errors.New("reported")

// A blindError is why something could not be read that was to be judged.
type blindError struct{ error }

func (e *blindError) Unwrap() error { return e.error }

// blind makes any error but a wrong flag one of these.
func blind(err error) error {
	var fault *faultError
	if err == nil || errors.As(err, &fault) || errors.Is(err, errReported) {
		return err
	}
	return &blindError{err}
}

// run is main without the process around it.
func run(ctx context.Context, args []string, std *streams) int {
	code := -1
	app, err := kong.New(&commands{},
		kong.Name("hyperion-vault"),
		kong.Description("A secrets vault for replicated PostgreSQL."),
		kong.FlagNamer(fieldFlag),
		kong.PostBuild(describeSettings),
		kong.Writers(std.out, std.err),
		kong.Exit(func(c int) { // --help
			if code < 0 {
				code = c
			}
		}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		return fail(std, exitFault, err)
	}
	parsed, err := app.Parse(args)
	if code >= 0 {
		return code
	}
	if err != nil {
		return fail(std, usageCode(args), usageFault(err))
	}
	err = parsed.Run()
	var fault *faultError
	var unread *blindError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFault
	case errors.As(err, &fault):
		return fail(std, usageCode(args), err)
	case errors.As(err, &unread):
		return fail(std, exitBlind, err)
	default:
		return fail(std, exitFault, err)
	}
}

// usageCode is how a command ends whose flags, arguments or settings are wrong.
func usageCode(args []string) int {
	if len(args) > 0 && args[0] == "serve" { // no flag goes before a command
		return exitConfig
	}
	return exitUsage
}

// fail writes each line of the error as one of ours. It may quote anybody.
func fail(std *streams, code int, err error) int {
	for _, line := range strings.Split(err.Error(), "\n") {
		_, _ = fmt.Fprintf(std.err, "hyperion-vault: %s\n", shown(line)) // nobody to tell
	}
	return code
}

// describeSettings tells in --help what the tags of a setting say: its form and
// its default, which kong must not apply itself.
func describeSettings(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		for _, f := range command.Flags {
			form := f.Tag.Get("form")
			if form == "" {
				continue
			}
			f.PlaceHolder = "VALUE"
			f.Help += " Form: " + form
			if preset := f.Tag.Get("preset"); preset != "" {
				f.Help += "; default " + preset
			}
			f.Help += "."
		}
	}
	return nil
}

// fieldFlag names a flag: a setting's by its variable, any other by its field.
func fieldFlag(field string) string {
	if f, ok := reflect.TypeFor[settings]().FieldByName(field); ok {
		return flagName(f.Tag.Get("env"))
	}
	var name strings.Builder
	for i, r := range field {
		if i > 0 && r >= 'A' && r <= 'Z' {
			name.WriteByte('-')
		}
		name.WriteRune(r)
	}
	return strings.ToLower(name.String())
}
