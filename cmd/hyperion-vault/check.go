// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// checkTimeout bounds all questions of `serve --check` together.
const checkTimeout = 60 * time.Second

// A checklist prints one line for each part as it is asked.
type checklist struct {
	w      io.Writer
	faults int
}

func (l *checklist) ok(part, format string, args ...any) {
	l.line("ok   ", part, fmt.Sprintf(format, args...))
}

func (l *checklist) note(part, format string, args ...any) {
	l.line("note ", part, fmt.Sprintf(format, args...))
}

func (l *checklist) fault(part, what, remedy string) {
	l.faults++
	l.line("FAULT", part, what)
	if remedy != "" {
		l.line("     ", "", "→ "+remedy)
	}
}

func (l *checklist) line(mark, part, text string) {
	_, _ = fmt.Fprintf(l.w, "%s %-9s %s\n", mark, part, text) // the exit code tells too
}

// check asks every part once and turns faults into an exit code.
func (n *node) check(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	l := &checklist{w: w}
	l.ok("settings", "all can be read")
	n.checkListen(ctx, l)
	n.checkAccess(l)
	n.checkServer(ctx, l)
	n.checkKMS(ctx, l)
	n.checkPrimary(ctx, l)
	n.checkSpool(ctx, l)
	if l.faults > 0 {
		return errReported
	}
	return nil
}

func (n *node) checkListen(ctx context.Context, l *checklist) {
	if err := n.config.tryListen(ctx); err != nil {
		l.note("listen", "%s (a node that runs already holds its own ports)", err)
		return
	}
	l.ok("listen", "all addresses are free")
}

// checkAccess names the doors by which no address may read.
func (n *node) checkAccess(l *checklist) {
	var shut []string
	if n.config.proxyIPs.String() == "" {
		shut = append(shut, "SQL")
	}
	if n.config.allowedIPs.String() == "" && n.config.readAuth != vault.ReadByToken {
		shut = append(shut, "REST")
	}
	if len(shut) > 0 {
		l.note("access", "nobody can read a secret by %s: no address is allowed to", strings.Join(shut, " or "))
		l.note("", "→ VAULT_ALLOWED_IPS names from where (loopback, 10.0.0.0/8, ...); for SQL alone, VAULT_PROXY_ALLOWED_IPS")
	}
}

func (n *node) checkServer(ctx context.Context, l *checklist) {
	c := n.config
	st, err := n.vault.Status(ctx)
	if err != nil {
		what, remedy := explain(err)
		if remedy == "" {
			remedy = fmt.Sprintf("see VAULT_LOCAL_PG (%s), VAULT_PG_USER (%s), VAULT_PG_DBNAME (%s); `hyperion-vault init` makes extension and role", c.local.address, c.user, c.database)
		}
		l.fault("server", what, remedy)
		return
	}
	l.ok("server", "%s: vault %s, extension %s", c.local.address, st.VaultID, st.ExtensionVersion)
	if !n.pinned {
		l.note("server", "this node knows no vault yet: the first start pins it to this one (VAULT_ID names another)")
	}
	if !st.AtLeast(2) {
		l.note("server", "the extension is older than 1.2: after a failover sessions stay at the primary until the standby's next restartpoint")
	}
	if !st.AtLeast(3) {
		l.note("server", "the extension is older than 1.3: REST answers 503")
	} else if !st.AtLeast(4) {
		l.note("server", "the extension is older than 1.4: roles and tokens are not managed by REST (503), and nodes do not tell each other of locked addresses")
	}
	if !st.AtLeast(4) {
		l.note("", "→ ALTER EXTENSION hyperion_vault UPDATE")
	}
	if st.WorkerDatabase != c.database {
		l.fault("worker", fmt.Sprintf("hyperion_vault.database is %q on the server, VAULT_PG_DBNAME is %q", st.WorkerDatabase, c.database),
			"run `hyperion-vault init --database "+c.database+"`, or ALTER SYSTEM SET hyperion_vault.database")
	}
	if !st.Preloaded {
		l.note("worker", "hyperion_vault is not in shared_preload_libraries: rotations are enqueued only while a node runs")
	}
	if _, _, err := n.vault.LoginVerifier(ctx, c.user); err != nil {
		what, _ := explain(err)
		l.fault("log-in", what, "run `hyperion-vault init`: it gives the service role its rights")
		return
	}
	n.checkRoles(ctx, l)
}

func (n *node) checkKMS(ctx context.Context, l *checklist) {
	err := n.canary(ctx)
	switch {
	case err == nil:
		key, _, _ := n.vault.Sealing() // it has sealed: there is one
		l.ok("KMS", "a canary was sealed and opened with %s", key)
	case vault.KindOf(err) == vault.KindNotReady:
		l.note("KMS", "not asked: the vault id is not known before the server was reached once")
	default:
		what, _ := explain(err)
		l.fault("KMS", what, "see VAULT_KMS_MODE, its key, and what the node's log says of the KMS")
	}
}

func (n *node) checkPrimary(ctx context.Context, l *checklist) {
	p, err := n.vault.Primary(ctx)
	if err != nil {
		l.fault("primary", err.Error(), "see VAULT_PG_HOSTS: it should name all servers of the cluster, reachable for "+n.config.user)
		return
	}
	l.ok("primary", "%s", p.Addr)
}

// checkRoles names the roles that cannot log in through a node, as far as the
// service role can see.
func (n *node) checkRoles(ctx context.Context, l *checklist) {
	roles, err := n.vault.LoginRoles(ctx)
	if err != nil {
		l.note("roles", "not asked: %s", err)
		return
	}
	var without, strong []string
	for _, r := range roles {
		_, found, err := n.vault.LoginVerifier(ctx, r.Name)
		switch {
		case err != nil:
			l.note("roles", "not all asked: %s", err)
			return
		case found:
		case r.Strong:
			strong = append(strong, r.Name)
		default:
			without = append(without, r.Name)
		}
	}
	if len(without) > 0 {
		l.note("roles", "cannot log in through a node: %s", strings.Join(without, ", "))
		l.note("", "→ each needs a password stored as SCRAM: SET password_encryption = 'scram-sha-256', then \\password ROLE")
	}
	if len(strong) > 0 {
		l.note("roles", "superusers, REPLICATION and BYPASSRLS roles are kept out: %s", strings.Join(strong, ", "))
		l.note("", "→ they use the server's own port; hyperion_vault.proxy_login = all on the server lets those with a SCRAM password in")
	}
	if len(without)+len(strong) == 0 {
		l.ok("roles", "all %d that may log in can do so through a node", len(roles))
	}
	n.checkHBA(ctx, l)
}

// explain splits an error into what and remedy; the operator may see the cause.
func explain(err error) (what, remedy string) {
	var e *vault.Error
	if !errors.As(err, &e) {
		return unreached(err).Error(), ""
	}
	brief := *e
	brief.Err = unreached(e.Err)
	what = brief.Error()
	if !strings.Contains(e.Hint, "log") { // there is no log here: this is the answer
		remedy = e.Hint
	}
	return strings.ReplaceAll(what, "\n", "; "), remedy
}
