// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rotation

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// noted has the database note each new version of a secret, in the transaction that
// makes it: for which date it was due, and when; and until when the old one is good.
const noted = `
CREATE TABLE public.rotated (name text, version int, due timestamptz, at timestamptz DEFAULT now(), next timestamptz);
CREATE FUNCTION public.note_rotated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO public.rotated (name, version, due, next) VALUES (NEW.name, NEW.current_version, OLD.next_rotation_at, NEW.next_rotation_at);
	RETURN NULL;
END $$;
CREATE TRIGGER note_rotated AFTER UPDATE ON vault.secrets FOR EACH ROW
	WHEN (OLD.current_version <> NEW.current_version AND OLD.deleted_at IS NULL) EXECUTE FUNCTION public.note_rotated();
CREATE TABLE public.superseded (name text, version int, expires_at timestamptz);
CREATE FUNCTION public.note_superseded() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO public.superseded SELECT s.name, NEW.version, NEW.expires_at FROM vault.secrets s WHERE s.id = NEW.secret_id;
	RETURN NULL;
END $$;
CREATE TRIGGER note_superseded AFTER UPDATE ON vault.secret_versions FOR EACH ROW
	WHEN (OLD.expires_at IS NULL AND NEW.expires_at IS NOT NULL) EXECUTE FUNCTION public.note_superseded()`

// A world is three servers with a node beside each, and secrets that are rotated all
// the time.
type world struct {
	c       *cluster.Cluster
	manager cluster.Manager
	primary atomic.Pointer[cluster.Node] // whose REST is asked
	held    int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	settings := cluster.PlainSettings()
	maps.Copy(settings, map[string]string{"hyperion_vault.scan_interval_secs": "1"})
	c := cluster.Start(t, cluster.Spec{
		Standbys: 2, Settings: settings,
		NodeEnv: map[string]string{"VAULT_ROTATION_POLL_SECS": "1", "VAULT_AUTH_MAX_FAILURES": "10000"},
	})
	w := &world{c: c, manager: cluster.Plain{Cluster: c}}
	w.primary.Store(c.PrimaryNode())
	c.Synchronous(t)
	admin := w.super(t)
	if _, err := admin.Exec(t.Context(), noted, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Nodes {
				log, err := os.ReadFile(n.Log)
				t.Logf("%s: %v\n%s", n.Name, err, log[max(0, len(log)-8<<10):])
			}
		}
	})
	return w
}

// super connects to the present primary's server.
func (w *world) super(t *testing.T) *pgx.Conn {
	t.Helper()
	return w.c.Connect(t, w.c.AddressDSN(w.primary.Load().Postgres, w.c.Superuser))
}

// name of the i-th secret.
func name(i int) string { return fmt.Sprintf("auto/%d", i) }

// create makes the secrets by REST: every fourth is a user name and a password.
func (w *world) create(t *testing.T) {
	t.Helper()
	for i := range *secrets {
		interval := 1 + i%max(1, int(*longest/time.Second))
		body := fmt.Sprintf(`{"name":%q,"kind":"automatic","rotation_interval_secs":%d,"grace_period_secs":2}`, name(i), interval)
		if i%4 == 3 {
			body = strings.Replace(body, "{", `{"username":"u",`, 1)
		}
		if status, text := w.call(t, http.MethodPost, "/v1/secrets", body); status != http.StatusCreated {
			t.Fatalf("create: %d %s", status, text)
		}
	}
}

var client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// call asks the node beside the primary. 0: there was no answer.
func (w *world) call(t *testing.T, method, path, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.primary.Load().REST+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	r.Header.Set("Authorization", "Bearer "+w.c.AdminToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	all, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(all)
}

// goOn returns when there were some more rotations.
func (w *world) goOn(t *testing.T) {
	t.Helper()
	conn := w.super(t)
	var before int
	for first := true; ; first = false {
		var n int
		cluster.Eventually(t, "rotations to go on", func() bool {
			return conn.QueryRow(t.Context(), "SELECT count(*) FROM public.rotated").Scan(&n) == nil && (first || n >= before+*secrets/2)
		})
		if !first {
			return
		}
		before = n
	}
}

// workers sees that there is a launcher at the primary, and nothing of the kind at a
// standby. away, unless nil, does not answer.
func (w *world) workers(t *testing.T, away *cluster.Node) {
	t.Helper()
	for i, n := range w.c.Nodes {
		if n == away {
			continue
		}
		conn := w.c.Connect(t, w.c.SuperDSN(i))
		want := "0"
		if n == w.primary.Load() {
			want = "1"
		}
		cluster.Eventually(t, "the launcher of "+n.Name, func() bool {
			return cluster.Text(t, conn, "SELECT count(*) FILTER (WHERE backend_type = 'hyperion_vault launcher')::text FROM pg_stat_activity") == want
		})
		if n != w.primary.Load() {
			if got := cluster.Text(t, conn, "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type LIKE 'hyperion_vault%'"); got != "0" {
				t.Errorf("%s is a standby and has %s workers", n.Name, got)
			}
		}
	}
}

// An observation is that a value of a version was, or was not, good at some time
// between two.
type observation struct {
	name       string
	version    int
	from, till time.Time
	good       bool
}

// observe reads some secrets and asks again and again whether the values read before
// are good still, until stop is closed. Server and test have one clock.
func (w *world) observe(t *testing.T, stop <-chan struct{}) (seen []observation) {
	t.Helper()
	type value struct {
		Version         int
		Value, Password string
	}
	const kept = 4
	known := map[string][]value{}
	for {
		for i := range 4 {
			path := "/v1/secrets/" + name(i)
			if status, text := w.call(t, http.MethodGet, path, ""); status == http.StatusOK {
				var v value
				if err := json.Unmarshal([]byte(text), &v); err != nil {
					t.Errorf("read: %v", err)
				}
				if list := known[name(i)]; len(list) == 0 || list[len(list)-1].Version != v.Version {
					known[name(i)] = append(list[max(0, len(list)+1-kept):], v)
				}
			}
			for _, v := range known[name(i)] {
				from := time.Now()
				status, text := w.call(t, http.MethodPost, path+"/verify", fmt.Sprintf(`{"value":%q}`, v.Value+v.Password))
				if status == http.StatusOK {
					seen = append(seen, observation{name(i), v.Version, from, time.Now(), strings.Contains(text, `"valid":true`)})
				}
			}
			select {
			case <-stop:
				return seen
			default:
			}
		}
	}
}
