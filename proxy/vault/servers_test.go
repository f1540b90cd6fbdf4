// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseStanding(t *testing.T) {
	at := Server{"tcp", "a:5432"}
	s, err := parseStanding(at, `{"claim" : "7 t 00000003", "version" : "15.20 (Debian)", "started" : "2026-11-29T08:00:00+00:00", "lsn" : "1/10"}`)
	if err != nil || s.Server != at || s.Timeline != 3 || s.Version != "15.20 (Debian)" || s.claim.primary || s.position != 1<<32|0x10 || !s.placed {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := parseStanding(at, `{"claim": "7 t 00000003", "version": "15", "started": "x", "lsn": null}`); err != nil || s.placed {
		t.Errorf("without a position: got %+v, %v", s, err)
	}
	for _, bad := range []string{"", "{}", `{"claim": 7}`, `{"claim": "7 t"}`, `["claim"]`} {
		if s, err := parseStanding(at, bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, s)
		}
	}
}

func TestJudge(t *testing.T) {
	const system = "7"
	says := func(addr string, primary bool, timeline uint32, position uint64) standing {
		s := standing{claim: claim{system: system, timeline: timeline, primary: primary}, started: addr, position: position, placed: true}
		s.Server, s.Timeline = Server{"tcp", addr}, timeline
		return s
	}
	away := func(addr string) standing {
		return standing{ServerState: ServerState{Server: Server{"tcp", addr}, Err: errors.New("away")}}
	}
	foreign := says("x", true, 9, 900)
	foreign.claim.system = "8"
	socket := says("b", false, 3, 90) // the same server by another address
	socket.Server = Server{"unix", "/run/.s"}
	dead := away("/run/.s")
	for _, test := range []struct {
		name   string
		hosts  []standing
		local  standing
		latest uint32
		want   string
	}{
		{"a cluster", []standing{says("a", true, 3, 100), says("b", false, 3, 90), says("c", false, 3, 100)}, says("b", false, 3, 90), 3, "a primary, b standby 10 here, c standby 0"},
		{"by a socket", []standing{says("a", true, 3, 100), says("b", false, 3, 90)}, socket, 3, "a primary, b standby 10 here"},
		{"not among the hosts", []standing{says("a", true, 3, 100)}, socket, 3, "/run/.s standby 10 here, a primary"},
		{"a standby that was asked later", []standing{says("a", true, 3, 100), says("b", false, 3, 120)}, says("a", true, 3, 100), 3, "a primary here, b standby 0"},
		{"the primary is away", []standing{away("a"), says("b", false, 3, 90)}, says("b", false, 3, 90), 3, "a -, b standby here"},
		{"replaced", []standing{says("a", true, 3, 100), says("b", true, 4, 90)}, says("a", true, 3, 100), 4, "a replaced here, b primary"},
		{"replaced by one that is away", []standing{says("a", true, 3, 100), away("b")}, says("a", true, 3, 100), 4, "a replaced here, b -"},
		{"a promotion that nobody has seen yet", []standing{says("b", true, 4, 90), says("a", true, 3, 100)}, says("a", true, 3, 100), 3, "b primary, a replaced here"},
		{"another cluster's", []standing{foreign, says("a", true, 3, 100)}, says("a", true, 3, 100), 3, "x foreign, a primary here"},
		{"the one beside is away, and its address is another", []standing{says("a", true, 3, 100)}, dead, 3, "/run/.s - here, a primary"},
		{"nobody knows whose", []standing{says("a", true, 3, 100)}, dead, 0, "/run/.s - here, a primary"},
	} {
		var got []string
		of := system
		if test.latest == 0 {
			of = ""
		}
		for _, s := range judge(test.hosts, test.local, of, test.latest) {
			word := s.Addr + " " + string(s.Role)
			if s.Err != nil {
				word += "-"
			}
			if s.Lag != nil {
				word += fmt.Sprint(" ", *s.Lag)
			}
			if s.Beside {
				word += " here"
			}
			got = append(got, word)
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: got %s; want %s", test.name, got, test.want)
		}
	}
}
