// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"slices"
	"strings"
)

// reloadable settings take effect at SIGHUP; all others need a restart.
var reloadable = []string{
	"VAULT_ALLOWED_IPS", "VAULT_PROXY_ALLOWED_IPS", "VAULT_READ_AUTH", "VAULT_API_HOSTS", "VAULT_TRUST_PROXY",
	"VAULT_TLS_CERT", "VAULT_TLS_KEY",
	"VAULT_PG_PASSWORD", "VAULT_PG_PASSWORD_FILE",
	"VAULT_LOG_LEVEL",
	"VAULT_MAX_SESSIONS", "VAULT_MAX_USER_SESSIONS", "VAULT_MAX_PENDING", "VAULT_MAX_ADDRESS_PENDING",
	"VAULT_HANDSHAKE_SECS", "VAULT_MAX_STARTUP_BYTES", "VAULT_FAILED_LOGINS_PER_SEC", "VAULT_CANCEL_MISSES_PER_SEC",
	"VAULT_AUTH_MAX_FAILURES", "VAULT_AUTH_WINDOW_SECS", "VAULT_AUTH_LOCKOUT_SECS",
	"VAULT_API_MAX_CONNECTIONS", "VAULT_IDLE_SECS", "VAULT_MAX_QUERY_BYTES", "VAULT_MAX_HELD_BYTES",
	"VAULT_TCP_KEEPALIVE_SECS", "VAULT_TCP_USER_TIMEOUT_SECS",
}

// reloadSettings reads everything again. A fault anywhere changes nothing.
func (n *node) reloadSettings(ctx context.Context) {
	fresh, warnings, err := n.reload()
	config, err := settle(fresh, warnings, err)
	if err == nil && (config.certificate == nil) != (n.certificate.Load() == nil) {
		err = faultf("VAULT_TLS_CERT: a certificate cannot come or go without a restart")
	}
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			n.log.ErrorContext(ctx, "the settings were not read again: nothing was changed", "error", line)
		}
		return
	}
	clear(config.masterKey)
	fresh.forget()
	for _, warning := range warnings {
		n.log.WarnContext(ctx, "setting", "warning", warning)
	}
	var restart []string
	for _, st := range settingList() {
		if fresh[st.name] != n.values[st.name] && !slices.Contains(reloadable, st.name) {
			restart = append(restart, st.name)
		}
	}
	n.vault.SetAllowedIPs(config.proxyIPs, config.allowedIPs)
	n.vault.SetPassword(config.password)
	n.vault.SetReadAuth(config.readAuth)
	n.vault.SetMisses(config.maxMisses, config.missWindow, config.lockout)
	n.rest.SetFront(config.apiHosts, config.trustProxy)
	n.rest.SetMaxConnections(config.maxConnections)
	n.proxy.SetLimits(config.limits)
	n.certificate.Store(config.certificate)
	if fresh["VAULT_PG_SSLROOTCERT"] == n.values["VAULT_PG_SSLROOTCERT"] { // the service role's stay where they were
		n.roots.Store(config.roots)
	}
	n.config.level.Set(config.logLevel)
	for _, name := range reloadable {
		if text, ok := fresh[name]; ok {
			n.values[name] = text
		} else {
			delete(n.values, name)
		}
	}
	n.log.InfoContext(ctx, "the settings were read again")
	if len(restart) > 0 {
		n.log.WarnContext(ctx, "changed settings need a restart", "settings", strings.Join(restart, ", "))
	}
}
