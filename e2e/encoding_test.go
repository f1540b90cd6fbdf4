// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestEncodingOfARead: the node does not convert what it opens. A secret that is not
// ASCII is an error under any encoding but UTF-8, by whatever means the session has
// come to it, and fails its block; one that is passes.
func TestEncodingOfARead(t *testing.T) {
	put(t, "encoding/ascii", "cafe", "encoding/other", "caf\u00e9")
	const ascii, other = "SELECT vault.read_secret('encoding/ascii') AS pw", "SELECT vault.read_secret('encoding/other') AS pw"
	const shown = "T(pw:25) D(caf\u00e9) C(SELECT_1) Z(I)"

	c := raw(t)
	c.Ask(t, shown, rawpg.Query(other))
	c.Ask(t, "C(SET) S(client_encoding=LATIN1) Z(I)", rawpg.Query("SET client_encoding = 'LATIN1'"))
	c.Ask(t, "T(pw:25) D(cafe) C(SELECT_1) Z(I)", rawpg.Query(ascii))
	c.Ask(t, "T(pw:25) E(22P05) Z(I)", rawpg.Query(other))
	c.Ask(t, "T(pw:25) D(cafe) C(SELECT_1) T(pw:25) E(22P05) Z(I)", rawpg.Query(ascii+";"+other+"; SELECT 1"))
	extended := func(name, want string) {
		t.Helper()
		c.Ask(t, want, rawpg.Parse("", readText), rawpg.Bind("", "", name), rawpg.Execute("", 0), rawpg.Sync())
	}
	extended("encoding/ascii", "1 2 D(cafe) C(SELECT_1) Z(I)")
	extended("encoding/other", "1 2 E(22P05) Z(I)")

	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	extended("encoding/ascii", "1 2 D(cafe) C(SELECT_1) Z(T)")
	extended("encoding/other", "1 2 E(22P05) Z(E)")
	c.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT 1"))
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("COMMIT"))
	c.Ask(t, "C(SET) S(client_encoding=UTF8) Z(I)", rawpg.Query("SET client_encoding = 'UTF8'"))
	c.Ask(t, shown, rawpg.Query(other))

	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	c.Ask(t, "C(SET) S(client_encoding=LATIN1) Z(T)", rawpg.Query("SET LOCAL client_encoding = 'LATIN1'"))
	c.Ask(t, "T(pw:25) D(cafe) C(SELECT_1) Z(T)", rawpg.Query(ascii))
	c.Ask(t, "T(pw:25) E(22P05) S(client_encoding=UTF8) Z(E)", rawpg.Query(other))
	c.Ask(t, "E(25P02) Z(E)", rawpg.Query(ascii))
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	c.Ask(t, shown, rawpg.Query(other))

	began := dial(t, shared.DSN(0, shared.User)+" client_encoding=LATIN1")
	began.Ask(t, "T(pw:25) D(cafe) C(SELECT_1) Z(I)", rawpg.Query(ascii))
	began.Ask(t, "T(pw:25) E(22P05) Z(I)", rawpg.Query(other))
}
