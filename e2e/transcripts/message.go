// SPDX-License-Identifier: GPL-3.0-or-later

package transcripts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// splitWords splits at blanks; a word in double quotes is as in Go.
func splitWords(line string) (words []string, err error) {
	for line != "" {
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%.200s: %w", line, err)
			}
			word, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			words, line = append(words, word), strings.TrimLeft(line[len(quoted):], " ")
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		words, line = append(words, word), strings.TrimLeft(rest, " ")
	}
	return words, nil
}

// message is the bytes of one line.
func message(w []string) ([]byte, error) {
	arg := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	switch w[0] {
	case "hex":
		return hex.DecodeString(strings.Join(w[1:], ""))
	case "raw":
		return []byte(arg(1)), nil
	case "startup":
		version, err := protocol(arg(1))
		if err != nil {
			return nil, err
		}
		return rawpg.Startup(version, w[2:]...), nil
	case "ssl":
		return rawpg.Packet(rawpg.CodeSSL, ""), nil
	case "gss":
		return rawpg.Packet(rawpg.CodeGSS, ""), nil
	case "F":
		return functionCall(w)
	}
	m, err := frontend(w, arg)
	if err != nil {
		return nil, err
	}
	return m.Encode(nil)
}

func frontend(w []string, arg func(int) string) (pgproto3.FrontendMessage, error) {
	switch w[0] {
	case "Q":
		return rawpg.Query(arg(1)), nil
	case "P":
		p := rawpg.Parse(arg(1), arg(2))
		for _, word := range w[min(3, len(w)):] {
			oid, err := strconv.ParseUint(word, 10, 32)
			if err != nil {
				return nil, err
			}
			p.ParameterOIDs = append(p.ParameterOIDs, uint32(oid))
		}
		return p, nil
	case "B":
		return bind(w)
	case "D":
		return &pgproto3.Describe{ObjectType: arg(1)[0], Name: arg(2)}, nil
	case "E":
		rows, err := strconv.ParseUint(arg(2), 10, 32)
		return rawpg.Execute(arg(1), uint32(rows)), err
	case "C":
		return &pgproto3.Close{ObjectType: arg(1)[0], Name: arg(2)}, nil
	case "S":
		return rawpg.Sync(), nil
	case "H":
		return rawpg.Flush(), nil
	case "X":
		return &pgproto3.Terminate{}, nil
	case "d":
		return &pgproto3.CopyData{Data: []byte(arg(1))}, nil
	case "c":
		return &pgproto3.CopyDone{}, nil
	case "f":
		return &pgproto3.CopyFail{Message: arg(1)}, nil
	}
	return nil, errors.New("no such message")
}

// protocol reads 3.9999 as the version number that stands in a startup packet.
func protocol(s string) (uint32, error) {
	major, minor, _ := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return 0, err
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	return uint32(a)<<16 | uint32(b), err
}

// bind reads: B portal statement [in=0,1] [out=1] parameters; NULL is \N.
func bind(w []string) (*pgproto3.Bind, error) {
	if len(w) < 3 {
		return nil, errors.New("a portal and a statement")
	}
	b := &pgproto3.Bind{DestinationPortal: w[1], PreparedStatement: w[2]}
	for _, p := range w[3:] {
		var err error
		switch {
		case strings.HasPrefix(p, "in="):
			b.ParameterFormatCodes, err = formats(p[3:])
		case strings.HasPrefix(p, "out="):
			b.ResultFormatCodes, err = formats(p[4:])
		case p == `\N`:
			b.Parameters = append(b.Parameters, nil)
		default:
			b.Parameters = append(b.Parameters, []byte(p))
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func formats(list string) (out []int16, err error) {
	for code := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(code, 10, 16)
		if err != nil {
			return nil, err
		}
		out = append(out, int16(n))
	}
	return out, nil
}

// functionCall reads: F oid [in=1] [out=1] arguments; NULL is \N.
func functionCall(w []string) ([]byte, error) {
	oid, err := strconv.ParseUint(w[1], 10, 32)
	if err != nil {
		return nil, err
	}
	f := &pgproto3.FunctionCall{Function: uint32(oid)}
	for _, a := range w[2:] {
		switch {
		case strings.HasPrefix(a, "in="):
			codes, err := formats(a[3:])
			if err != nil {
				return nil, err
			}
			for _, c := range codes {
				f.ArgFormatCodes = append(f.ArgFormatCodes, uint16(c)) //nolint:gosec // 0 or 1
			}
		case strings.HasPrefix(a, "out="):
			codes, err := formats(a[4:])
			if err != nil {
				return nil, err
			}
			f.ResultFormatCode = uint16(codes[0]) //nolint:gosec // 0 or 1
		case a == `\N`:
			f.Arguments = append(f.Arguments, nil)
		default:
			f.Arguments = append(f.Arguments, []byte(a))
		}
	}
	return f.Encode(nil)
}
