// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// A segment is a file: a header, then frames. It is only ever appended to, and
// only by the process that made it. Where it ends is said by the next one's
// header: what stands behind that place was never acknowledged, or stands in the
// next one again.
const (
	segmentMagic  = "hvaudit\x01" // the last byte is the format
	segmentSuffix = ".seg"
	headerSize    = 8 + 16 + 8 + 8 + sha256.Size + 8 + 16 + 8 + 4 + 4

	frameHeader = 4 + 4 + 8 + 1
	maxFrame    = frameHeader + maxBody + ed25519.SignatureSize
)

// castagnoli has instructions of its own on most processors.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bootID changes whenever the machine, and so its page cache, starts anew. Zero:
// unknown.
type bootID [16]byte

// header begins a segment.
type header struct {
	node    NodeID
	number  uint64   // of the segment: 1 and up, without a gap
	start   Position // behind which its records follow
	prevEnd int64    // where the segment before ends; 0: there is none
	boot    bootID   // of the machine whose process made it
	created time.Time
	mode    Sync
}

func (h *header) append(b []byte) []byte {
	at := len(b)
	b = append(b, segmentMagic...)
	b = append(b, h.node[:]...)
	b = binary.BigEndian.AppendUint64(b, h.number)
	b = binary.BigEndian.AppendUint64(b, h.start.Seq)
	b = append(b, h.start.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.prevEnd)) //nolint:gosec // a file's size
	b = append(b, h.boot[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.created.UnixMicro()))
	b = append(b, byte(h.mode), 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

func decodeHeader(b []byte) (h header, err error) {
	if len(b) != headerSize || string(b[:8]) != segmentMagic {
		return h, errors.New("it does not begin as a segment of format 1")
	}
	sum := headerSize - 4
	if crc32.Checksum(b[:sum], castagnoli) != binary.BigEndian.Uint32(b[sum:]) {
		return h, errors.New("the header's checksum is wrong")
	}
	copy(h.node[:], b[8:])
	h.number = binary.BigEndian.Uint64(b[24:])
	h.start.Seq = binary.BigEndian.Uint64(b[32:])
	copy(h.start.Hash[:], b[40:])
	h.prevEnd = int64(binary.BigEndian.Uint64(b[72:])) //nolint:gosec // checked below
	copy(h.boot[:], b[80:])
	h.created = time.UnixMicro(int64(binary.BigEndian.Uint64(b[96:]))) //nolint:gosec // any time will do
	h.mode = Sync(b[104])
	if h.number < 1 || h.start.Seq > maxSeq || h.prevEnd < 0 || h.mode > SyncAlways || !bytes.Equal(b[105:108], zeroes[:3]) {
		return h, errors.New("a field of the header is out of bounds")
	}
	return h, nil
}

func segmentName(number uint64) string { return fmt.Sprintf("%016d%s", number, segmentSuffix) }

// segmentNumber is the reverse of segmentName.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && segmentName(n) == name
}

// The kinds of frames.
const (
	frameRecord = 1
	frameHead   = 2
)

// appendFrame appends a frame. synced is the number of the last record known to
// be durable when it is written, tail a record's hash or a head's signature.
func appendFrame(b []byte, kind byte, synced uint64, body, tail []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body))) //nolint:gosec // at most maxBody
	b = binary.BigEndian.AppendUint64(b, synced)
	b = append(b, kind)
	b = append(append(b, body...), tail...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// frame is one that was read; its slices refer to what was parsed.
type frame struct {
	kind       byte
	synced     uint64
	body, tail []byte
	size       int
}

// parseFrame reads the frame that b begins with. False: there is no whole frame
// with a right checksum; no more than maxFrame bytes are looked at.
func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) < frameHeader {
		return f, false
	}
	n, tail := binary.BigEndian.Uint32(b[4:]), sha256.Size
	switch f.kind = b[16]; {
	case f.kind == frameRecord && n >= minBody && n <= maxBody:
	case f.kind == frameHead && n == headBody:
		tail = ed25519.SignatureSize
	default:
		return f, false
	}
	end := frameHeader + int(n)
	f.size = end + tail
	if len(b) < f.size || crc32.Checksum(b[4:f.size], castagnoli) != binary.BigEndian.Uint32(b) {
		return f, false
	}
	f.synced = binary.BigEndian.Uint64(b[8:])
	f.body, f.tail = b[frameHeader:end], b[end:f.size]
	return f, true
}
