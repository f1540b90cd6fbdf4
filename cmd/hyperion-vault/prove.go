// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// proveCommand looks for values where they must not be.
type proveCommand struct {
	restClient `embed:""`

	Login      []string `placeholder:"KIND=CONNINFO" sep:"none" help:"Another log-in, whose doors are opened too: standby (the same role, at a node beside a standby), stranger (a role without a right), replication (a superuser, at the node), elsewhere (another database; default: postgres)."`
	Server     []string `placeholder:"CONNINFO" sep:"none" help:"A server's own port, as a superuser: its statistics views are looked through, and CHECKPOINT brings to its files what is to be seen there. At the primary, the control goes there too, and what is logged is set. May be given again."`
	AsIs       bool     `help:"Leave the logging of the roles as it is. Else, with --server at the primary, all that they send is logged for this time (ALTER ROLE … IN DATABASE … SET), and set back."`
	DataDir    []string `placeholder:"DIR" sep:"none" help:"A server's data directory; links to its WAL and tablespaces are followed. May be given again, as all that follow."`
	Log        []string `placeholder:"PATH" sep:"none" help:"A server's log: a file, or a directory of them."`
	NodeLog    []string `placeholder:"PATH" sep:"none" help:"A node's log, in a file."`
	AuditDir   []string `placeholder:"DIR" sep:"none" help:"A node's own directory (its VAULT_AUDIT_DIR)."`
	BaseBackup bool     `help:"Have pg_basebackup copy the first --server, and look through what it sends. Nothing is kept."`
	Dump       bool     `help:"The same with pg_dump, of the database of the first --server."`
	Changed    bool     `help:"Of the files read those alone that were written since this began: older ones cannot hold values that did not exist."`
	Require    []string `placeholder:"KIND,…" help:"What must be looked at, named or not, or nothing is proved: data, wal, log, node-log, audit, views, base-backup, dump; doors: every one of SQL is opened; rest: those of REST are. All that is named by a flag must be anyway."`
	Progress   bool     `help:"Tell every few seconds how far it is, also where stderr is no terminal."`
	JSON       bool     `name:"json" help:"Print what was found as one object of JSON."`
}

// What --require may name beside kinds of places.
const (
	requireDoors = "doors"
	requireREST  = "rest"
)

// Run opens the doors, looks, cleans up, and prints.
func (c *proveCommand) Run(ctx context.Context, std *streams) error {
	p, err := c.prover(std)
	if err != nil {
		return err
	}
	if err = p.runAndClean(ctx); err != nil {
		if left := p.report.Left; len(left) > 0 {
			err = fmt.Errorf("%w\nleft behind: %s", err, strings.Join(left, "\nleft behind: "))
		}
		return blind(err)
	}
	p.judge()
	write := writeProof
	if c.JSON {
		write = writeProofJSON
	}
	switch err := write(std.out, &p.report); {
	case err != nil:
		return blind(err)
	case p.report.Verdict == verdictFound:
		return errReported
	case p.report.Verdict != verdictProved:
		return blind(errNotProved)
	}
	return nil
}

var errNotProved = errors.New("nothing was found, but not all was looked at that should be: nothing is proved")

// A prover is one run.
type prover struct {
	c     *proveCommand
	std   *streams
	id    string // keeps it apart from others
	began time.Time

	logins  map[canary.Login]*login
	servers []*provedServer
	rest    *canary.RESTClient
	why     map[string]string // a log-in, or REST, has none: the reason

	canaries []*canary.Canary
	controls controls
	secrets  []string // to be deleted
	scanner  *canary.Scanner
	// seen are findings in what the servers showed while doors were open.
	seen     []canary.Finding
	lastTold time.Time
	written  time.Time // by then all that was said is in the logs
	// undo is what there is to be done, the last first.
	undo   []undoing
	report proof
}

type undoing struct {
	what string
	do   func(context.Context) error
}

func (p *prover) later(what string, do func(context.Context) error) {
	p.undo = append(p.undo, undoing{what, do})
}

// prover checks what was named.
func (c *proveCommand) prover(std *streams) (*prover, error) {
	run := make([]byte, 6)
	_, _ = rand.Read(run) // never fails, by its documentation
	p := &prover{
		c: c, std: std, id: hex.EncodeToString(run), began: time.Now(),
		logins: map[canary.Login]*login{}, why: map[string]string{},
	}
	p.report = proof{ // lists of JSON are never null
		Run: p.id, NotOpened: []unopened{}, Settings: []string{}, Looked: []looked{}, NotLooked: []notLooked{}, Findings: []foundCanary{},
		Notes: []string{}, Faults: []string{}, Left: []string{},
	}
	allowed := append([]string{requireDoors, requireREST}, kinds...)
	for _, kind := range c.Require {
		if !slices.Contains(allowed, kind) {
			return nil, faultf("--require %q: it should be some of %s", kind, strings.Join(allowed, ", "))
		}
	}
	named := len(c.DataDir) + len(c.Log) + len(c.NodeLog) + len(c.AuditDir) + len(c.Server)
	if named == 0 {
		return nil, faultf("nothing to look at was named: --data-dir, --log, --audit-dir, --server, …")
	}
	if (c.BaseBackup || c.Dump) && len(c.Server) == 0 {
		return nil, faultf("--base-backup and --dump need a --server")
	}
	return p, errors.Join(p.parseLogins(), p.parseServers(), p.parseREST())
}

// parseREST opens no door of REST where there is no token.
func (p *prover) parseREST() error {
	token, err := clientToken(p.std.environ)
	if err != nil {
		return err
	}
	if token == "" {
		p.why[requireREST] = "there is no token (" + tokenVariable + ")"
		return nil
	}
	base, err := p.c.base()
	if err != nil {
		return err
	}
	transport, err := p.c.transport()
	if err != nil {
		return err
	}
	p.rest = &canary.RESTClient{Base: base.String(), Token: token, HTTP: &http.Client{
		Timeout: clientTimeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}}
	return nil
}

// runAndClean leaves nothing, whatever ends it: the end of the terminal, or of who reads
// what is said, may not end the process.
func (p *prover) runAndClean(ctx context.Context) error {
	defer p.clean() //nolint:contextcheck // the caller's may have ended
	signal.Ignore(syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	return p.run(ctx)
}

// run does everything but clean up and judge.
func (p *prover) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		p.connectServers, p.connectLogins, p.logAll, p.openDoors, p.openREST, p.readBack, p.plant, p.settle, p.look,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// cleanTimeout bounds what is done at the end, also behind Ctrl-C.
const cleanTimeout = time.Minute

// clean takes back what was made and set; what could not be is in the report.
func (p *prover) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout) //nolint:forbidigo // the caller's may have ended
	defer cancel()
	for _, u := range slices.Backward(p.undo) {
		if err := u.do(ctx); err != nil {
			p.report.Left = append(p.report.Left, fmt.Sprintf("%s: %s", u.what, oneLine(err)))
		}
	}
	p.undo = nil
}

// say tells on stderr how it goes, to who wants to know.
func (p *prover) say(format string, args ...any) {
	if p.c.Progress || isTerminal(p.std.err) {
		p.warn(format, args...)
	}
}

// warn tells it to everybody.
func (p *prover) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(p.std.err, "hyperion-vault: "+format+"\n", args...) // nobody to tell
}

// oneLine is an error without its breaks.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
