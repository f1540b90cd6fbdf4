// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

type devCommand struct {
	JSON        bool              `name:"json" help:"Free ports, a random password, and one ready line in JSON on stdout."`
	Standbys    int               `placeholder:"N" help:"Streaming standbys, each with a node of its own."`
	Dir         string            `placeholder:"DIR" help:"Keep the data there, and go on with what is there."`
	SQL         string            `name:"sql" placeholder:"FILE" help:"Run the file by psql through the first node, as the user, before the ready line."`
	Listen      string            `default:"127.0.0.1" placeholder:"ADDR" help:"Address of the nodes; beyond loopback they get a throw-away certificate, and the user a random password or the one in HYPERION_VAULT_DEV_PASSWORD."`
	KMSEndpoint string            `name:"kms-endpoint" placeholder:"URL" help:"Use the AWS KMS that answers there, with VAULT_KMS_KEY_ID and the AWS SDK's own variables."`
	User        string            `default:"app" help:"Role and database owner to make; it is granted everything on every secret."`
	Database    string            `default:"app" help:"Database to make; it gets the vault."`
	ProxyPort   int               `placeholder:"6432" help:"Port for SQL through the first node; each further node takes the next."`
	APIPort     int               `name:"api-port" placeholder:"8200" help:"Port for REST, the same way."`
	MetricsPort int               `placeholder:"9632" help:"Port for metrics, the same way."`
	ServerPort  int               `placeholder:"5433" help:"Port of the first PostgreSQL server, the same way."`
	PGSetting   map[string]string `name:"pg-setting" placeholder:"NAME=VALUE" mapsep:"none" help:"A line for postgresql.conf of every server (may be repeated)."`
}

// Run starts the cluster, tells how to use it, and waits for a signal.
func (d *devCommand) Run(ctx context.Context, std *streams) error {
	config, err := d.config(std)
	if err != nil {
		return err
	}
	if !d.JSON {
		_, _ = fmt.Fprintln(std.err, "starting PostgreSQL and a node …")
	}
	cluster, err := devcluster.Start(ctx, config)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil //nolint:nilerr // asked to end before it was ready: as asked
	default:
		return err
	}
	err = d.serve(ctx, std, cluster)
	return errors.Join(err, cluster.Stop()) //nolint:contextcheck // ctx has ended: that is why
}

func (d *devCommand) config(std *streams) (devcluster.Config, error) {
	if d.Standbys < 0 || d.Standbys > 8 {
		return devcluster.Config{}, faultf("--standbys holds %d: it should be a number from 0 to 8", d.Standbys)
	}
	if err := d.checkPorts(); err != nil {
		return devcluster.Config{}, err
	}
	binary, err := os.Executable()
	if err != nil {
		return devcluster.Config{}, err
	}
	config := devcluster.Config{
		Binary: binary, Standbys: d.Standbys, Dir: d.Dir, Listen: d.Listen,
		Database: d.Database, User: d.User,
		ProxyPort: d.ProxyPort, RESTPort: d.APIPort, MetricsPort: d.MetricsPort, ServerPort: d.ServerPort,
		ServerSettings: d.PGSetting, NodeSettings: nodeSettings(std.environ), Log: std.err,
	}
	if d.KMSEndpoint != "" {
		config.AWS = awsEnvironment(std.environ, d.KMSEndpoint)
	}
	if config.Password, err = devPassword(std.environ); err != nil || d.JSON {
		return config, err
	}
	preset := func(p *int, port int) {
		if *p == 0 {
			*p = port
		}
	}
	preset(&config.ProxyPort, 6432)
	preset(&config.RESTPort, 8200)
	preset(&config.MetricsPort, 9632)
	preset(&config.ServerPort, 5433)
	// Easy to type, so only where no other host can try it. Not the superuser's: who has that
	// runs programs as us.
	if addr, err := netip.ParseAddr(d.Listen); config.Password == "" && (d.Listen == "localhost" || err == nil && addr.IsLoopback()) {
		config.Password = "app"
	}
	return config, nil
}

// checkPorts knows that each standby takes the next one.
func (d *devCommand) checkPorts() error {
	for _, p := range []struct {
		flag  string
		first int
	}{{"--proxy-port", d.ProxyPort}, {"--api-port", d.APIPort}, {"--metrics-port", d.MetricsPort}, {"--server-port", d.ServerPort}} {
		if most := 65535 - d.Standbys; p.first < 0 || p.first > most {
			return faultf("%s holds %d: it should be a number from 0 (any) to %d", p.flag, p.first, most)
		}
	}
	return nil
}

// devPassword is for who must know the user's password before we start: a job of
// CI cannot read what the container beside it prints. Empty: there is none.
func devPassword(environ []string) (string, error) {
	password := ""
	for _, entry := range environ {
		if name, text, _ := strings.Cut(entry, "="); name == "HYPERION_VAULT_DEV_PASSWORD" {
			password = text
		}
	}
	if strings.ContainsFunc(password, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", faultf("HYPERION_VAULT_DEV_PASSWORD holds a character that it should not (not shown): visible ASCII characters alone")
	}
	return password, nil
}

// awsEnvironment is what nodes need for a KMS at an endpoint: our own variables of
// the AWS SDK, or credentials that a KMS for trials takes.
func awsEnvironment(environ []string, endpoint string) []string {
	env := []string{"AWS_ACCESS_KEY_ID=dev", "AWS_SECRET_ACCESS_KEY=dev", "AWS_EC2_METADATA_DISABLED=true"}
	for _, variable := range environ {
		if strings.HasPrefix(variable, "AWS_") {
			env = append(env, variable) // of two the last one counts
		}
	}
	return append(env, "AWS_ENDPOINT_URL_KMS="+endpoint)
}

// nodeSettings are the settings in our own environment, for every node's file.
func nodeSettings(environ []string) map[string]string {
	var known []string
	for _, st := range settingList() {
		known = append(known, st.name)
	}
	env := vaultEnvironment(environ)
	for name := range env {
		if !slices.Contains(known, name) {
			delete(env, name)
		}
	}
	return env
}

func (d *devCommand) serve(ctx context.Context, std *streams, cluster *devcluster.Cluster) error {
	if d.SQL != "" {
		if err := d.load(ctx, std, cluster); err != nil {
			return err
		}
	}
	if d.JSON {
		line, err := json.Marshal(cluster)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(std.out, "%s\n", line); err != nil {
			return err
		}
	} else {
		printHelp(std.out, cluster, d.Dir != "")
	}
	<-ctx.Done()
	if !d.JSON {
		_, _ = fmt.Fprintln(std.err, "ending …")
	}
	return nil
}

// load runs the file through the node, so that the puts in it are sealed.
func (d *devCommand) load(ctx context.Context, std *streams, cluster *devcluster.Cluster) error {
	bindir, err := devcluster.FindServer(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(cluster.Primary().Proxy)
	if err != nil {
		return err
	}
	//nolint:gosec // a program of PostgreSQL's with a file of the operator's
	psql := exec.CommandContext(ctx, bindir+"/psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--host", host, "--port", port,
		"--username", cluster.User, "--dbname", cluster.Database, "--file", d.SQL)
	psql.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "PGPASSWORD=" + cluster.Password}
	psql.Stdout, psql.Stderr = std.err, std.err // stdout is for the ready line
	if err := psql.Run(); err != nil {
		return fmt.Errorf("--sql %s: psql: %w", d.SQL, err)
	}
	return nil
}

// printHelp writes what a person can paste; kept: the data stays.
func printHelp(w io.Writer, cluster *devcluster.Cluster, kept bool) {
	var b strings.Builder
	program, err := os.Executable()
	if err != nil {
		program = "hyperion-vault"
	}
	for _, node := range cluster.Nodes {
		fmt.Fprintf(&b, "\n%s (%s)\n", node.Name, node.Role)
		fmt.Fprintf(&b, "  SQL      psql %s\n", serverURL(cluster.User, cluster.Password, node.Proxy, cluster.Database))
		curl := "curl"
		if strings.HasPrefix(node.REST, "https:") {
			curl = "curl -k"
		}
		fmt.Fprintf(&b, "  REST     %s %s/readyz\n", curl, node.REST)
		fmt.Fprintf(&b, "  metrics  curl %s\n", node.Metrics)
		fmt.Fprintf(&b, "  server   psql %s\n", serverURL(cluster.Superuser, cluster.SuperuserPassword, node.Postgres, cluster.Database))
		fmt.Fprintf(&b, "  status   %s status --config %s\n", program, node.Config)
	}
	primary := cluster.Primary()
	fmt.Fprintf(&b, `
Store a secret and read it back (\prompt keeps the value out of psql's history):
  psql %s
    \prompt 'value: ' v \\ SELECT vault.put_secret('demo/password', :'v');
    SELECT vault.read_secret('demo/password');

The same, as the server itself sees it:
  psql %s -c "SELECT vault.read_secret('demo/password')"

`, serverURL(cluster.User, cluster.Password, primary.Proxy, cluster.Database),
		serverURL(cluster.Superuser, cluster.SuperuserPassword, primary.Postgres, cluster.Database))
	end := "Ctrl-C ends and removes it."
	if kept {
		end = "Ctrl-C ends it. The data stays there: the same --dir goes on with it."
	}
	fmt.Fprintf(&b, "admin token (REST): %s\nfiles and logs:     %s\n%s\n", cluster.AdminToken, cluster.Dir(), end)
	_, _ = io.WriteString(w, b.String()) // a closed terminal: the signal follows
}

// serverURL needs no quoting for the shell unless a name has odd characters.
func serverURL(user, password, address, database string) string {
	return fmt.Sprintf("postgresql://%s:%s@%s/%s", user, password, address, database)
}
