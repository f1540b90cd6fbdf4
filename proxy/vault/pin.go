// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// pinFile holds the vault id, beside the audit spool.
const pinFile = "vault-id"

// ErrForeignVault is behind every error about a vault id that is not the pinned
// one.
var ErrForeignVault = errors.New("not the vault that this node is pinned to")

// Pin is the id of the one vault that this node serves: configured, or met at
// the first start and remembered. It never changes once known. Safe for
// concurrent use.
type Pin struct {
	dir  string
	peek bool // nothing is written

	mu    sync.Mutex
	id    envelope.UUID
	known bool
}

// PinVaultID reads the id pinned in dir (VAULT_AUDIT_DIR), or pins the
// configured one (VAULT_ID; empty: none). The two must be equal. With neither,
// the first id that [Pin.Check] sees is pinned. dir is made if it is missing.
func PinVaultID(dir, configured string) (*Pin, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the audit directory cannot be made: %w", err)
	}
	return (&Pin{dir: dir}).take(configured)
}

// PeekVaultID is PinVaultID that makes no directory and no file: what it would pin
// it keeps in memory.
func PeekVaultID(dir, configured string) (*Pin, error) {
	return (&Pin{dir: dir, peek: true}).take(configured)
}

func (p *Pin) take(configured string) (*Pin, error) {
	stored, err := p.read()
	if err != nil {
		return nil, err
	}
	if configured != "" {
		id, err := envelope.ParseUUID(configured)
		if err != nil {
			return nil, fmt.Errorf("VAULT_ID: %w", err)
		}
		if stored && id != p.id {
			return nil, fmt.Errorf("%w: VAULT_ID is %s, but %s says %s (a node that moves to another vault gets a new audit directory)",
				ErrForeignVault, id, p.path(), p.id)
		}
		if !stored {
			if err := p.pin(id); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *Pin) path() string { return filepath.Join(p.dir, pinFile) }

// ID returns the pinned id, if there is one yet.
func (p *Pin) ID() (envelope.UUID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id, p.known
}

// Check compares the server's id with the pinned one, which it becomes if there
// is none yet. ErrForeignVault: they differ.
func (p *Pin) Check(id envelope.UUID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known {
		if id != p.id {
			return fmt.Errorf("%w: the server says %s, pinned is %s", ErrForeignVault, id, p.id)
		}
		return nil
	}
	return p.pin(id)
}

// read takes the id from the file; false: there is no file.
func (p *Pin) read() (bool, error) {
	f, err := os.Open(p.path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the pinned vault id cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("the pinned vault id cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return false, fmt.Errorf("%s must be a file that only its owner can write (chmod 600)", p.path())
	}
	b, err := io.ReadAll(io.LimitReader(f, 64)) // a uuid and a line break have 37
	if err != nil {
		return false, fmt.Errorf("the pinned vault id cannot be read: %w", err)
	}
	id, err := envelope.ParseUUID(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.path(), err)
	}
	p.id, p.known = id, true
	return true, nil
}

func (p *Pin) pin(id envelope.UUID) error {
	if id == (envelope.UUID{}) {
		return errors.New("the nil uuid is not a vault id")
	}
	if !p.peek {
		if err := p.write(id); err != nil {
			return err
		}
	}
	p.id, p.known = id, true
	return nil
}

// write stores the id so that it is there whole or not at all, also after a
// crash.
func (p *Pin) write(id envelope.UUID) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the vault id cannot be pinned: %w", err)
		}
	}()
	f, err := os.CreateTemp(p.dir, pinFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(id.String() + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), p.path())
	}
	if err != nil {
		_ = os.Remove(f.Name()) // best effort: an empty or whole file under another name
		return err
	}
	return syncDir(p.dir)
}

// syncDir makes a directory's entries durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
