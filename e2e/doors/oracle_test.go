// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import (
	"fmt"
	"strings"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// A door is one way for a value to go.
type door struct {
	shape     shape
	call      call
	literal   literal
	transport transport
	setting   setting
	database  string
}

func (d door) String() string {
	s := strings.Join([]string{d.shape.name, d.call.name, d.literal.name, d.transport.name, d.setting.name}, " / ")
	if d.database != databases[0] {
		s += " / " + d.database
	}
	return s
}

// value is what the door's constant stands for.
func (d door) value(c *canary.Canary) string {
	middle := d.literal.middle
	if d.literal.off != "" && d.setting.off && !d.transport.param {
		middle = d.literal.off
	}
	return c.With(middle).Value()
}

// text is the door's statement.
func (d door) text(c *canary.Canary, worker int) string {
	value := d.literal.write(c)
	if d.transport.param {
		value = "$1" + d.transport.cast
	}
	if d.literal.around != "" {
		value = fmt.Sprintf(d.literal.around, value)
	}
	call := strings.NewReplacer("%n", plain(c.Secret), "%v", value, "%d", d.database).Replace(d.call.text)
	inner := "SELECT " + call
	escaped := "E" + plain(strings.ReplaceAll(inner, `\`, `\\`))
	quoted := plain(inner)
	if d.setting.off {
		quoted = escaped[1:]
	}
	return strings.NewReplacer("%c", call, "%q", quoted, "%e", escaped, "%w", fmt.Sprint(worker)).Replace(d.shape.text)
}

// expect is what must come of a door: refusals by one of some SQLSTATEs, or, if
// there are none, the value sealed. It is what the design says, not what the
// code does:
//
//   - a database without the vault has no such call;
//   - a call that no function of ours takes is none, and is told so;
//   - a value that is no constant of text is not known before the server knows it;
//   - what the server keeps, or runs as code, cannot hold a sealed value;
//   - COPY and EXECUTE take no parameters, and a Parse holds one statement;
//   - where bytes are no UTF-8, or it is not known how they are read, nothing is
//     read;
//   - in a failed block nothing runs.
func (d door) expect(c *canary.Canary) (states []string) {
	add := func(when bool, more ...string) {
		if when {
			states = append(states, more...)
		}
	}
	if d.database != databases[0] {
		return []string{"3F000"}
	}
	add(true, d.call.states...)
	add(!d.transport.param || d.literal.alsoParam, d.literal.states...)
	add(d.shape.does != runs, "0A000")
	add(!d.transport.simple && d.shape.noParams, "0A000")
	add(!d.transport.simple && d.shape.many, "42601")
	add(d.transport.failed || d.setting.failed, "25P02")
	for _, oid := range d.transport.types {
		add(oid != oidText && oid != oidVarchar, "0A000")
	}
	if d.unsettled() {
		// The literals of the shapes and calls themselves are plain.
		add(!d.transport.param && d.literal.touchy(c), "0A000")
		add(d.transport.param && !ascii(d.value(c)) && d.setting.foreign(), "0A000")
	}
	add(d.setting.ahead == "" && d.setting.foreign(), "0A000")
	// The node knows LATIN1 until it has heard otherwise.
	add(d.setting.name == "UTF8 in the batch", "0A000")
	return states
}

// unsettled: the node cannot know the settings under which the text is read.
func (d door) unsettled() bool { return d.setting.ahead != "" || d.transport.batch }

// mayRefuse are states with which a door that need not be refused may be.
func (d door) mayRefuse() []string {
	// The node may have heard of off last, too.
	if (d.setting.off || d.setting.wasOff) && d.literal.mayFailOff && !d.transport.param {
		return []string{"0A000"} // the server would refuse it as well
	}
	return nil
}

// stays: a value that was taken can be read back.
func (d door) stays() bool {
	return !d.shape.lost && !d.call.lost && len(d.shape.states) == 0
}

// twice: the text can run twice.
func (d door) twice() bool { return !d.shape.once && !d.call.once }

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
