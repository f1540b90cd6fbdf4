// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// longest is what a node promises for all tries of a call, and as much again for a
// loaded machine.
const longest = 2 * 15 * time.Second

// TestOutages: with the KMS away in each way, what was read before is read on,
// all else fails in bounded time with an error that says so, readyz tells, and
// with the KMS back all goes on without a restart.
func TestOutages(t *testing.T) {
	admin := awskms.New(awskms.Options{
		Region: "eu-west-2", BaseEndpoint: aws.String("http://" + kms.Address), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	for _, c := range []struct {
		name   string
		begin  func(t *testing.T)
		end    func(t *testing.T)
		detail string
	}{
		{"killed", func(*testing.T) { kms.Kill() }, func(t *testing.T) {
			if err := kms.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, "unavailable"},
		{"refused connections", func(*testing.T) { _ = before.server.Close() }, func(t *testing.T) {
			if err := before.listen(before.address); err != nil {
				t.Fatal(err)
			}
		}, "unavailable"},
		{"hung", suffering(hang), healed, "unavailable"},
		{"cut in mid-answer", suffering(cut), healed, "unavailable"},
		{"no KMS at all", suffering(nonsense), healed, "unavailable"},
		{"its own fault", suffering(refused(500, "KMSInternalException", "")), healed, "unavailable"},
		{"throttling", suffering(refused(400, "ThrottlingException", "Rate exceeded")), healed, "throttled"},
		{"denying", suffering(refused(400, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/node is not authorized")), healed, "access denied"},
		{"key pending deletion", suffering(refused(400, "KMSInvalidStateException", "pending deletion")), healed, "key disabled"},
		{"key gone", suffering(refused(400, "NotFoundException", "no such key")), healed, "key not found"},
		{"key disabled", func(t *testing.T) {
			if _, err := admin.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: aws.String(cluster.KMSKey)}); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T) {
			if _, err := admin.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: aws.String(cluster.KMSKey)}); err != nil {
				t.Fatal(err)
			}
		}, "key disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := shared.Connect(t, shared.DSN(0, shared.User))
			prefix := "outage/" + strings.ReplaceAll(c.name, " ", "-")
			cached, uncached := prefix+"/cached", prefix+"/uncached"
			put(t, conn, cached)
			put(t, conn, uncached)
			flush(t)
			read(t, conn, cached)
			c.begin(t)
			end := sync.OnceFunc(func() { c.end(t) })
			defer end()
			began := time.Now()
			var all sync.WaitGroup
			for _, sql := range []string{"SELECT vault.read_secret($1)", "SELECT vault.put_secret($1, 'new')"} {
				conn := shared.Connect(t, shared.DSN(0, shared.User))
				all.Go(func() {
					_, err := conn.Exec(t.Context(), sql, uncached)
					saysSo(t, err, c.detail)
				})
			}
			all.Go(func() { saysSoByREST(t, "GET", "/v1/secrets/"+uncached, "") })
			all.Go(func() { saysSoByREST(t, "PUT", "/v1/secrets/"+uncached, `{"value":"new"}`) })
			read(t, conn, cached)
			all.Wait()
			if took := time.Since(began); took > longest {
				t.Errorf("the failures took %v", took)
			}
			tells(t)
			out, code := shared.Nodes[0].Status(t)
			if !regexp.MustCompile(`(?m)^kms +kms key arn:[^;]*; aws, key arn:[^;]*; [1-9]\d* calls, [1-9]\d* failed$`).MatchString(out) || code != 1 {
				t.Errorf("status: exit code %d\n%s", code, out)
			}
			end()
			cluster.Eventually(t, "readings to go on", func() bool {
				var got string
				return conn.QueryRow(t.Context(), "SELECT vault.read_secret($1)", uncached).Scan(&got) == nil && got == "value of "+uncached
			})
			put(t, conn, uncached)
			cluster.Eventually(t, "readyz to be well", func() bool { _, text := readyz(t, ""); return strings.Contains(text, `"status":"ok"`) })
		})
	}
}

// saysSo judges an error: it names the KMS and how it failed, and nothing of what
// is inside.
func saysSo(t *testing.T, err error, detail string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "58000" || !strings.Contains(pg.Message+pg.Detail, "KMS") || !strings.Contains(pg.Detail, detail) {
		t.Errorf("got %v, want 58000 that names the KMS, %s", err, detail)
		return
	}
	if all := pg.Message + pg.Detail + pg.Hint; strings.Contains(all, "arn:") || strings.Contains(all, "127.0.0.1") {
		t.Errorf("the client was told of the KMS's inside: %s", all)
	}
}

// saysSoByREST is the same of REST, which says when to try again.
func saysSoByREST(t *testing.T, method, path, body string) {
	t.Helper()
	user := &restUser{t, http.DefaultClient, shared.Nodes[0].REST, shared.AdminToken}
	status, header, text := user.exchange(method, path, body)
	if status != http.StatusServiceUnavailable || !strings.Contains(string(text), `"code":"kms"`) || header.Get("Retry-After") == "" {
		t.Errorf("%s: got %d %s, Retry-After %q", method, status, text, header.Get("Retry-After"))
	}
	if strings.Contains(string(text), "arn:") || strings.Contains(string(text), "127.0.0.1") {
		t.Errorf("%s: the client was told of the KMS's inside: %s", method, text)
	}
}

// tells sees that readyz names the KMS, and that a node without it gets no clients
// only if that is asked for.
func tells(t *testing.T) {
	t.Helper()
	cluster.Eventually(t, "readyz to tell", func() bool { _, text := readyz(t, ""); return strings.Contains(text, `"degraded"`) })
	for query, want := range map[string]struct {
		code   int
		status string
	}{
		"": {http.StatusOK, "degraded"}, "?require=server,primary,audit": {http.StatusOK, "degraded"}, "?require=kms": {http.StatusServiceUnavailable, "unavailable"},
	} {
		code, text := readyz(t, query)
		if code != want.code || !strings.Contains(text, `"status":"`+want.status+`"`) || strings.Contains(text, `"kms":"ok"`) || !strings.Contains(text, `"kms":"`) {
			t.Errorf("readyz%s: got %d %s, want %d and %s", query, code, text, want.code, want.status)
		}
	}
}

// TestSlow: a KMS that takes its time is waited for.
func TestSlow(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	put(t, conn, "slow/one")
	flush(t)
	before.suffer(t, slow(700*time.Millisecond))
	read(t, conn, "slow/one")
	put(t, conn, "slow/one")
}

// TestAnotherKey: what the KMS answers for another key is not taken.
func TestAnotherKey(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	before.suffer(t, other)
	_, err := conn.Exec(t.Context(), "SELECT vault.put_secret('another/key', 'x')")
	saysSo(t, err, "invalid request")
}

func suffering(f fault) func(*testing.T) {
	return func(t *testing.T) { t.Helper(); before.suffer(t, f) }
}

func healed(*testing.T) { before.heal() }

func put(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, "value of "+name)
}

func read(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	if got := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name); got != "value of "+name {
		t.Errorf("%s: got %q", name, got)
	}
}

// flush empties the node's cache of data keys.
func flush(t *testing.T) {
	t.Helper()
	if out := shared.Nodes[0].Run(t, nil, "flush"); out != "" {
		t.Fatalf("flush: %s", out)
	}
}

func readyz(t *testing.T, query string) (code int, text string) {
	t.Helper()
	answer, err := http.Get(shared.Nodes[0].REST + "/readyz" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
