// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestByteByByte sends the vault's own messages a byte at a time.
func TestByteByByte(t *testing.T) {
	c := raw(t)
	for _, step := range []struct {
		want string
		msgs []pgproto3.FrontendMessage
	}{
		{"T(v:23) D(1) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.put_secret('bytes/a', 'bytes canary') AS v")}},
		{"1 t(25,25) T(v:23) 2 D(2) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{
			rawpg.Parse("", putText), rawpg.DescribeStatement(""),
			rawpg.Bind("", "", "bytes/a", "bytes canary"), rawpg.Execute("", 0), rawpg.Sync(),
		}},
		{"T(pw:25) D(bytes_canary) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.read_secret('bytes/a') AS pw")}},
		{"1 2 D(bytes_canary) C(SELECT_1) 1 E(22012) Z(I)", []pgproto3.FrontendMessage{
			rawpg.Parse("", readText), rawpg.Bind("", "", "bytes/a"), rawpg.Execute("", 0),
			rawpg.Parse("", "SELECT 1/0"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync(),
		}},
		{"E(0A000) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.put_secret('bytes/a', 'bytes ' || 'canary')")}},
		{"E(0A000) Z(I)", []pgproto3.FrontendMessage{rawpg.Parse("", "SELECT vault.put_secret('bytes/a', 'bytes ' || 'canary')"), rawpg.Bind("", ""), rawpg.Sync()}},
	} {
		b, err := rawpg.Encode(step.msgs...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			if err := c.Write(b[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		c.Expect(t, step.want)
	}
	c.Settled(t, "I")
	shared.NeverSent(t, "bytes canary")
}

// TestSizes puts and reads the largest values, refuses larger ones, and opens
// rows that are large for another reason, or wide.
func TestSizes(t *testing.T) {
	const most = 512 << 10
	c := raw(t)
	value := strings.Repeat("sizes canary ", most)[:most]
	c.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.put_secret('sizes/a', '"+value+"') AS v"))
	c.Ask(t, "1 2 D(2) C(SELECT_1) Z(I)", rawpg.Parse("", putText), rawpg.Bind("", "", "sizes/a", value), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "1 2 D(3) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT vault.put_secret('sizes/a', '"+value+"') AS v"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	spelt := strings.ReplaceAll(value, " ", "_")
	for _, way := range [][]pgproto3.FrontendMessage{
		{rawpg.Query("SELECT vault.read_secret('sizes/a') AS pw")},
		{rawpg.Parse("", readText), rawpg.DescribeStatement(""), rawpg.Bind("", "", "sizes/a"), rawpg.Execute("", 0), rawpg.Sync()},
	} {
		want := "T(pw:25) D(" + spelt + ") C(SELECT_1) Z(I)"
		if len(way) > 1 {
			want = "1 t(25) T(pw:25) 2 D(" + spelt + ") C(SELECT_1) Z(I)"
		}
		c.Ask(t, want, way...)
	}
	c.Ask(t, "E(22023) Z(I)", rawpg.Query("SELECT vault.put_secret('sizes/a', '"+value+"x') AS v"))
	c.Ask(t, "1 E(22023) Z(I)", rawpg.Parse("", putText), rawpg.Bind("", "", "sizes/a", value+"x"), rawpg.Execute("", 0), rawpg.Sync())
	// 20 of them in one result, and a large plain column beside a sealed one.
	var rows []string
	for range 20 {
		rows = append(rows, "D("+spelt+")")
	}
	c.Ask(t, "T(pw:25) "+strings.Join(rows, " ")+" C(SELECT_20) Z(I)", rawpg.Query("SELECT vault.read_secret('sizes/a') AS pw FROM generate_series(1, 20)"))
	put(t, "sizes/small", "small")
	big := strings.Repeat("y", 2<<20)
	c.Ask(t, "T(a:25,pw:25,b:25) D("+big+",small,"+big+") C(SELECT_1) Z(I)",
		rawpg.Query("SELECT repeat('y', 2 << 20) AS a, vault.read_secret('sizes/small') AS pw, repeat('y', 2 << 20) AS b"))
	// As many columns as PostgreSQL gives.
	columns, names, fields := make([]string, 1600), make([]string, 1600), make([]string, 1600)
	for i := range columns {
		columns[i] = fmt.Sprintf("vault.read_secret('sizes/small') AS c%d", i)
		names[i], fields[i] = fmt.Sprintf("c%d:25", i), "small"
	}
	c.Ask(t, "T("+strings.Join(names, ",")+") D("+strings.Join(fields, ",")+") C(SELECT_1) Z(I)", rawpg.Query("SELECT "+strings.Join(columns, ", ")))
	c.Settled(t, "I")
	shared.NeverSent(t, "sizes canary")
}
