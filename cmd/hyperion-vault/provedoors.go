// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// doorTimeout is far beyond what any door takes.
const doorTimeout = 30 * time.Second

// doorsEvery is after how many doors it says how far it is.
const doorsEvery = 20

// openDoors sends a value by each door of SQL for which there is a log-in.
func (p *prover) openDoors(ctx context.Context) error {
	doors := canary.Doors()
	for i, door := range doors {
		if i%doorsEvery == 0 {
			p.say("doors of SQL: %d of %d", i, len(doors))
		}
		if p.logins[door.As] == nil {
			p.report.NotOpened = append(p.report.NotOpened, unopened{door.Name, p.why[door.As.String()]})
			continue
		}
		if err := p.openDoor(ctx, &door); err != nil {
			return err
		}
		p.report.Doors++
	}
	return nil
}

// openDoor fails only if no door can be opened any more.
func (p *prover) openDoor(ctx context.Context, door *canary.Door) error {
	ctx, cancel := context.WithTimeout(ctx, doorTimeout)
	defer cancel()
	session, err := p.dial(ctx, door.As)
	if err != nil {
		return fmt.Errorf("door %q: %w", door.Name, err)
	}
	defer func() { _ = session.Close(ctx) }() // a door may have ended it
	if door.As == canary.Owner {
		if err := canary.Prepare(ctx, session); err != nil {
			return fmt.Errorf("the temporary tables of the doors: %w", err)
		}
	}
	one := p.newCanary(door.Name)
	err = door.Open(ctx, session, one)
	if got := canary.State(err); got != door.State { // what the server says may quote the value
		p.report.fault("door %q: answered %s, want %s", door.Name, taken(got), taken(door.State))
	}
	return p.watch(ctx, door, session, one)
}

func taken(state string) string {
	if state == "" {
		return "that the value was taken"
	}
	return state
}

// newCanary makes one, whose secret is removed at the end.
func (p *prover) newCanary(door string) *canary.Canary {
	one := canary.New(door, p.id)
	p.canaries = append(p.canaries, one)
	p.removeLater(one.Secret)
	return one
}

// removeLater has secrets deleted at the end, all by one session.
func (p *prover) removeLater(names ...string) {
	if p.secrets == nil {
		p.later("secrets below canary/"+p.id+"/", p.removeSecrets)
	}
	p.secrets = append(p.secrets, names...)
}

func (p *prover) removeSecrets(ctx context.Context) error {
	session, err := p.dial(ctx, canary.Owner)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }() // its results were read
	var failed error                          // the first; the others are removed nevertheless
	for _, name := range p.secrets {
		err := session.ExecParams(ctx, "SELECT vault.delete_secret($1)", [][]byte{[]byte(name)}, nil, nil, nil).Read().Err
		failed = cmp.Or(failed, err)
	}
	return failed
}

// watch looks at what the server shows of a session that is still there.
func (p *prover) watch(ctx context.Context, door *canary.Door, session *canary.Session, one *canary.Canary) error {
	scanner := canary.NewScanner([]*canary.Canary{one})
	if primary := p.primary(); primary != nil {
		if err := eachText(ctx, primary.conn, activity, func(text string) { scanner.Text("pg_stat_activity of "+primary.name, text) }); err != nil {
			return err
		}
	}
	if !session.IsClosed() && door.As != canary.Replication && session.TxStatus() == 'I' {
		results, err := session.Exec(ctx, "SELECT p::text FROM pg_catalog.pg_prepared_statements AS p; SELECT c::text FROM pg_catalog.pg_cursors AS c").ReadAll()
		if err != nil {
			p.report.fault("door %q: its session cannot go on: %s", door.Name, canary.State(err))
			return nil
		}
		for i, view := range []string{"pg_prepared_statements", "pg_cursors"} {
			for _, row := range results[i].Rows {
				scanner.Text(view, string(row[0]))
			}
		}
	}
	p.seen = append(p.seen, scanner.Findings...)
	return nil
}

// activity is the view as texts.
const activity = "SELECT a::pg_catalog.text FROM pg_catalog.pg_stat_activity AS a"

// eachText reads a query's only column, row by row.
func eachText(ctx context.Context, conn *pgx.Conn, sql string, use func(string)) error {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	var text string
	_, err = pgx.ForEachRow(rows, []any{&text}, func() error {
		use(text)
		return nil
	})
	return err
}

// openREST sends a value by each door of REST, and has some made there.
func (p *prover) openREST(ctx context.Context) error {
	doors := canary.RESTDoors()
	if p.rest != nil { // one that does not answer is one that was not looked at
		if _, _, err := p.rest.Do(ctx, "GET", "/healthz", "", ""); err != nil {
			p.why[requireREST], p.rest = oneLine(err), nil
			p.report.fault("REST: %s", oneLine(err))
		}
	}
	if p.rest == nil {
		p.report.NotOpened = append(p.report.NotOpened, unopened{fmt.Sprintf("all %d of REST", len(doors)), p.why[requireREST]})
		return nil
	}
	p.say("doors of REST: %d", len(doors))
	for _, door := range doors {
		one := p.newCanary("REST: " + door.Name)
		p.removeLater(door.Names(one)...)
		status, _, err := door.Open(ctx, p.rest, one)
		if err != nil {
			return fmt.Errorf("REST: %w", err)
		}
		if status != door.Status {
			remedy := ""
			if status == http.StatusTooManyRequests {
				remedy = ": this address is locked for the unknown tokens that it has sent; wait for VAULT_AUTH_LOCKOUT_SECS of the node"
			}
			p.report.fault("door %q: answered %d, want %d%s", one.Door, status, door.Status, remedy)
		}
		there, err := p.rest.ReadBack(ctx, one)
		if err != nil {
			return fmt.Errorf("REST: %w", err)
		}
		if there != door.Keeps {
			p.report.fault("door %q: the value can be read: %t, want %t", one.Door, there, door.Keeps)
		}
		p.report.RESTDoors++
	}
	name := canary.New("REST: made by the node", p.id).Secret
	p.removeLater(name)
	made, err := p.rest.Generate(ctx, name)
	if err != nil {
		p.report.fault("REST: %s", oneLine(err))
	}
	p.canaries = append(p.canaries, made...)
	return nil
}

// readBack sees that each value that was taken by SQL is there: else nothing of it
// could have been found.
func (p *prover) readBack(ctx context.Context) error {
	session, err := p.dial(ctx, canary.Owner)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }() // its results were read
	doors := map[string]canary.Door{}
	for _, door := range canary.Doors() {
		doors[door.Name] = door
	}
	for _, one := range p.canaries {
		door, sql := doors[one.Door]
		if !sql {
			continue
		}
		answer := session.ExecParams(ctx, "SELECT vault.read_secret($1, missing_ok => true)", [][]byte{[]byte(one.Secret)}, nil, nil, nil).Read()
		if answer.Err != nil {
			p.report.fault("door %q: the value cannot be read: %s", one.Door, canary.State(answer.Err))
			continue
		}
		there := len(answer.Rows) == 1 && string(answer.Rows[0][0]) == one.Value()
		if want := door.State == "" && !door.Lost; there != want {
			p.report.fault("door %q: the value can be read: %t, want %t", one.Door, there, want)
		}
	}
	return nil
}
