// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Every SQL text of the service role. All names are qualified and search_path is
// pinned; a client's settings never reach these connections.
const (
	sqlLoginVerifier = `SELECT vault.login_verifier($1), pg_catalog.pg_conf_load_time()`
	sqlStatus        = `SELECT vault.status()::pg_catalog.text`
	sqlSlots         = `SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('max_connections'), pg_catalog.current_setting('superuser_reserved_connections'))`
)

const (
	// storeTimeout bounds one statement with its connection: a client waits for
	// it.
	storeTimeout = 5 * time.Second
	// loginTimeout is the same for a log-in, which may stand in line for a
	// connection behind hundreds of others; the statement itself is bounded by
	// statement_timeout.
	loginTimeout = 60 * time.Second // as authentication_timeout

	defaultPoolMax  = 16
	applicationName = "hyperion-vault"
)

// Server is a PostgreSQL server's address: network "tcp" and "host:port", or
// "unix" and the path of the socket itself.
type Server struct{ Network, Addr string }

// String returns the address.
func (s Server) String() string { return s.Addr }

// local says whether no other machine is on the way.
func (s Server) local() bool {
	if s.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// store is the service role's access to the local server.
type store struct {
	pool     *pgxpool.Pool
	rest     *pgxpool.Pool // so that no flood of requests keeps a log-in waiting
	most     int32         // connections of a pool
	database string
	user     string
	password atomic.Pointer[string]
	config   func(Server) (*pgconn.Config, error)
}

// newStore connects to nothing yet.
func newStore(c Config) (*store, error) {
	s := &store{database: c.Database, user: c.User, most: defaultPoolMax}
	if c.PoolMax > 0 {
		s.most = int32(min(c.PoolMax, 10_000))
	}
	s.password.Store(&c.Password)
	s.config = func(at Server) (*pgconn.Config, error) { return serviceConfig(c, at) }
	var err error
	if s.pool, err = s.newPool(c.Local, s.most, storeTimeout, nil); err != nil {
		return nil, err
	}
	if s.rest, err = s.newPool(c.Local, s.most/2, storeTimeout, restParams); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// restParams: of what REST asks the local server all that this writes is when a token was
// last used. No read waits for standbys to have that.
var restParams = map[string]string{"synchronous_commit": "off"}

// newPool returns connections to a server, whose statements may take as long as
// is given, with further settings. It connects to nothing yet.
func (s *store) newPool(at Server, most int32, limit time.Duration, params map[string]string) (*pgxpool.Pool, error) {
	config, err := s.config(at)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(limit.Milliseconds(), 10)
	maps.Copy(config.RuntimeParams, params)
	pool, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("vault: a PG… variable of libpq in the environment is wrong: %w", err)
	}
	pool.ConnConfig.Config = *config
	pool.ConnConfig.AfterConnect = meet
	pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement // DROP and CREATE EXTENSION have the server plan anew
	pool.MinConns = 0
	pool.MaxConns = max(most, 1)
	pool.MaxConnIdleTime = 5 * time.Minute
	pool.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		if fresh, err := s.config(at); err == nil { // what SSLRootCert names may have been written anew
			cc.TLSConfig, cc.Fallbacks = fresh.TLSConfig, fresh.Fallbacks
		}
		cc.Password = *s.password.Load()
		return nil
	}
	// No I/O: without a minimum the pool connects when it is first asked.
	made, err := pgxpool.NewWithConfig(context.Background(), pool) //nolint:forbidigo // the pool lives until close
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return made, nil
}

func (s *store) close() {
	s.pool.Close()
	s.rest.Close()
}

// ErrPooler is a pooler in the local server's place.
var ErrPooler = errors.New("it is a pooler, not a PostgreSQL server")

// errForeign is a schema of another's: what it has under our names would be run as the
// service role.
var errForeign = errors.New("the schema vault is not the extension's")

// sqlMeet says who answers, and whether a schema vault is somebody else's.
const sqlMeet = `SELECT pg_catalog.pg_backend_pid(), EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'vault' AND NOT EXISTS (
 SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'hyperion_vault'
 WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objid = n.oid
 AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'))`

// meet sees that nothing between us and the server hands out connections: the process
// that answers is the one whose cancel key we got. And that the vault is one.
func meet(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, sqlMeet).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return ErrPooler
	}
	switch row := results[0].Rows[0]; {
	case string(row[0]) != strconv.FormatUint(uint64(conn.PID()), 10):
		return ErrPooler
	case string(row[1]) != "f":
		return errForeign
	}
	return nil
}

// serviceConfig says how the service role connects to a server. What libpq's
// environment could set is set here.
func serviceConfig(c Config, at Server) (*pgconn.Config, error) {
	host, port := at.Addr, uint16(5432)
	if at.Network != "unix" {
		h, p, err := net.SplitHostPort(at.Addr)
		if err != nil {
			return nil, fmt.Errorf("vault: server address %q: want host:port", at.Addr)
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("vault: server address %q: want host:port", at.Addr)
		}
		host, port = h, uint16(n)
	}
	mode := c.SSLMode
	if mode == "" {
		mode = "verify-full"
		if at.local() {
			mode = "prefer"
		}
	}
	auth, binding := "scram-sha-256", "prefer"
	if c.AllowTrust && (at.local() || mode == "verify-full") {
		auth += ",none"
	}
	if !at.local() && mode != "verify-full" {
		binding = "require" // else whoever is on the way could play the server: verify-ca lets in any host's certificate
	}
	var b strings.Builder
	for _, kv := range [][2]string{
		{"host", host},
		{"port", strconv.Itoa(int(port))},
		{"user", c.User},
		{"dbname", c.Database},
		{"sslmode", mode},
		{"sslrootcert", c.SSLRootCert},
		{"sslcert", ""},
		{"sslkey", ""},
		{"sslnegotiation", "postgres"},
		{"passfile", ""},
		{"target_session_attrs", "any"},
		{"channel_binding", binding},
		{"require_auth", auth},
		{"min_protocol_version", "3.0"},
		{"max_protocol_version", "3.0"},
		{"connect_timeout", strconv.Itoa(int(loginTimeout.Seconds()))}, // also if who asked has left: the next one gets it
	} {
		b.WriteString(kv[0] + "='" + quoteConn.Replace(kv[1]) + "' ")
	}
	cc, err := pgconn.ParseConfig(b.String())
	if err != nil {
		return nil, fmt.Errorf("vault: connection settings of the service role: %w", err)
	}
	cc.Password = c.Password
	cc.RuntimeParams = map[string]string{
		"application_name":                    applicationName,
		"client_encoding":                     "UTF8",
		"search_path":                         "pg_catalog, pg_temp",
		"default_transaction_isolation":       "read committed", // a standby refuses serializable, which may be the database's
		"statement_timeout":                   strconv.FormatInt(storeTimeout.Milliseconds(), 10),
		"idle_in_transaction_session_timeout": strconv.FormatInt(storeTimeout.Milliseconds(), 10),
		"hyperion_vault.client_addr":          "", // it has none, but is a node's: the extension tells it what was done
	}
	if at.Network == "unix" {
		var d net.Dialer
		cc.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", at.Addr) }
	}
	if c.Socket != nil {
		cc.DialFunc = wrapping(cc.DialFunc, c.Socket)
	}
	return cc, nil
}

// wrapping has what is dialled wrapped.
func wrapping(dial pgconn.DialFunc, wrap func(net.Conn) net.Conn) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wrap(nc), nil
	}
}

// quoteConn quotes for the inside of '…' in a connection string.
var quoteConn = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// text runs a statement that returns one nullable text. If its connection broke
// since it was last used, so have the others probably: it runs once more, on a new
// one. All statements here only read.
func (s *store) text(ctx context.Context, sql string, args ...any) (out *string, err error) {
	return s.textWithin(ctx, storeTimeout, sql, args...)
}

func (s *store) textWithin(ctx context.Context, limit time.Duration, sql string, args ...any) (out *string, err error) {
	err = s.rowWithin(ctx, limit, []any{&out}, sql, args...)
	return out, err
}

// rowWithin is textWithin for other columns.
func (s *store) rowWithin(ctx context.Context, limit time.Duration, into []any, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.pool.QueryRow(ctx, sql, args...).Scan(into...)
	if err != nil && ctx.Err() == nil && brokenConnection(err) {
		s.pool.Reset()
		err = s.pool.QueryRow(ctx, sql, args...).Scan(into...)
	}
	return err
}

// brokenConnection says whether err is about a connection that once worked.
func brokenConnection(err error) bool {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	if errors.As(err, &connect) {
		return false
	}
	return !errors.As(err, &pg) || strings.HasPrefix(pg.Code, "57P")
}

// LoginVerifier returns the SCRAM verifier that the local server has for a role
// right now. Not found: there is no such role, or it may not or cannot log in
// through a node. The error is an *Error of KindServer. Nothing is cached: an old
// password stops working with the next log-in.
func (v *Vault) LoginVerifier(ctx context.Context, user string) (verifier string, found bool, err error) {
	if !utf8.ValidString(user) || strings.ContainsRune(user, 0) {
		return "", false, nil // no parameter can carry it: a stranger's name, not a fault
	}
	var out *string
	var loaded time.Time
	if err := v.store.rowWithin(ctx, loginTimeout, []any{&out, &loaded}, sqlLoginVerifier, user); err != nil {
		return "", false, v.serverError(err)
	}
	v.rules.note(loaded)
	if out == nil {
		return "", false, nil
	}
	return *out, true, nil
}

// Status is what the local server says of its vault.
type Status struct {
	VaultID          string     `json:"vault_id"` // empty: not bootstrapped yet
	ExtensionVersion string     `json:"extension_version"`
	InRecovery       bool       `json:"in_recovery"`
	Preloaded        bool       `json:"preloaded"`
	WorkerDatabase   string     `json:"worker_database"`
	LastTickAt       *time.Time `json:"last_tick_at"`

	// Of libraries from 1.9 on.
	RotationsClaimed *int64      `json:"rotations_claimed"` // jobs that nodes have under way
	AuditNodes       []AuditNode `json:"audit_nodes"`       // which have shipped records, the latest first, at most 100
}

// An AuditNode is what the vault has of a node's audit.
type AuditNode struct {
	ID      string `json:"node_id"`
	Shipped int64  `json:"shipped"` // the number of its last record there
	At      string `json:"at"`      // when the node signed that, by its own clock, as the server spells it
}

// AtLeast says whether the extension is 1.minor or later; false: not known either.
func (s Status) AtLeast(minor int) bool {
	text, ours := strings.CutPrefix(s.ExtensionVersion, "1.")
	n, err := strconv.Atoi(text)
	return ours && err == nil && n >= minor
}

var (
	errStatus      = errors.New("vault.status() returned what this node cannot read")
	errNoBootstrap = errors.New("vault.meta has no row")
)

// serverError says what is wrong with the local server and what to do.
func (v *Vault) serverError(err error) *Error {
	e := &Error{
		Kind: KindServer, Err: err,
		Msg:  fmt.Sprintf("node %q cannot use its PostgreSQL server now", v.node),
		Hint: "The node's log says why; it tries on by itself.",
	}
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, errNoBootstrap):
		e.Detail = "The vault is not set up."
		e.Hint = "Run hyperion-vault init."
	case errors.Is(err, ErrPooler):
		e.pooler()
	case errors.Is(err, errForeign):
		e.Detail = fmt.Sprintf("The schema vault of database %q is not the extension's.", v.store.database)
		e.Hint = "Check VAULT_PG_DBNAME: it should name the vault's database."
	case !errors.As(err, &pg):
	case pg.Code == "08P01" && strings.Contains(pg.Message, "startup parameter"): // no server says that
		e.Err = fmt.Errorf("%w: %w", ErrPooler, err)
		e.pooler()
	case pg.Code == "3F000", pg.Code == "42883":
		e.Detail = fmt.Sprintf("The extension hyperion_vault is not in database %q, or is of another version.", v.store.database)
		e.Hint = "Run hyperion-vault init, or ALTER EXTENSION hyperion_vault UPDATE."
	case pg.Code == "42501":
		e.Detail = fmt.Sprintf("The service role %q lacks its rights.", v.store.user)
		e.Hint = fmt.Sprintf("As superuser in database %q: SELECT vault.grant_service_role('%s').", v.store.database, v.store.user)
	case pg.Code == "28P01", pg.Code == "28000":
		e.Detail = fmt.Sprintf("The service role %q cannot log in.", v.store.user)
		e.Hint = "Check VAULT_PG_USER, VAULT_PG_PASSWORD and pg_hba.conf."
	case pg.Code == "3D000":
		e.Detail = fmt.Sprintf("There is no database %q.", v.store.database)
		e.Hint = "Check VAULT_PG_DBNAME."
	}
	return e
}

func (e *Error) pooler() {
	e.Detail = "Between this node and its PostgreSQL server is a pooler."
	e.Hint = "Point VAULT_LOCAL_PG on the node at the server itself; a pooler belongs in front of nodes."
}

// readStatus asks the local server. The result is valid also if the vault is
// not bootstrapped.
func (v *Vault) readStatus(ctx context.Context) (st Status, err error) {
	out, err := v.store.text(ctx, sqlStatus)
	if err != nil {
		return Status{}, v.serverError(err)
	}
	if out == nil || json.Unmarshal([]byte(*out), &st) != nil {
		return Status{}, v.serverError(errStatus)
	}
	return st, nil
}
