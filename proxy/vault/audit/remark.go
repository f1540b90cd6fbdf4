// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// remarkFile says since which start all have had the same remark. It is one of the small
// files, see identity.go; it is not there if the last start had no remark.
const remarkFile = "remark"

// remark keeps since when all starts have had this one's remark: the processes before may
// have left records that are still to be shipped, and promised something else of them.
func (s *Spool) remark() error {
	path := filepath.Join(s.dir, remarkFile)
	if s.since = maxSeq + 1; s.o.Remark == "" {
		if err := s.sys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("remove", path, err)
		}
		return nil // begin makes it durable
	}
	since, err := readRemark(s.sys, s.dir, s.o.Remark)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && since <= s.last.Seq:
		s.since = since
		return nil
	}
	s.since = s.last.Seq // this start's
	return replaceFile(s.sys, s.dir, path, remarkText(s.o.Remark, s.since))
}

const remarkHead = "hyperion-vault audit remark 1\n"

func remarkText(remark string, since uint64) []byte {
	return fmt.Appendf(nil, remarkHead+"%s\nsince %d\n", remark, since)
}

// readRemark says since which start all have had this remark. fs.ErrNotExist: the last one
// had none, or another.
func readRemark(sys system, dir, remark string) (since uint64, err error) {
	path := filepath.Join(dir, remarkFile)
	b, err := readFile(sys, path, maxSmallFile, false)
	if err != nil {
		return 0, err
	}
	rest, _ := bytes.CutPrefix(b, []byte(remarkHead))
	text, number, _ := bytes.Cut(rest, []byte("\n"))
	if _, err := fmt.Sscanf(string(number), "since %d\n", &since); err != nil || !bytes.Equal(remarkText(string(text), since), b) {
		return 0, damaged(path, -1, "it is not a mark of what starts have remarked")
	}
	if string(text) != remark {
		return 0, fs.ErrNotExist
	}
	return since, nil
}
