// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// secrets is what a kept directory must remember to be started again.
type secrets struct {
	Database            string `json:"database"`
	User                string `json:"user"`
	Password            string `json:"password"`
	SuperuserPassword   string `json:"superuser_password"`
	ReplicationPassword string `json:"replication_password"`
	ServicePassword     string `json:"service_password"`
	MasterKey           string `json:"master_key"`
	AdminToken          string `json:"admin_token"`
	VaultID             string `json:"vault_id"`
}

const stateFile = "cluster.json"

// openDir makes the cluster's directory, or takes up the one that was kept.
func (c *Cluster) openDir() error {
	if c.config.Dir == "" {
		sweep()
		dir, err := os.MkdirTemp("", tempPrefix)
		if err != nil {
			return err
		}
		c.dir = dir
		if c.lock, err = lock(dir); err != nil {
			return err
		}
		c.newSecrets()
		return c.account.admit(dir)
	}
	dir, err := filepath.Abs(c.config.Dir)
	if err != nil {
		return err
	}
	state, err := os.ReadFile(filepath.Join(dir, stateFile))
	switch {
	case err == nil:
		if err := json.Unmarshal(state, &c.secrets); err != nil {
			return fmt.Errorf("%s is not a file of ours", filepath.Join(dir, stateFile))
		}
	case errors.Is(err, os.ErrNotExist):
		if err := checkEmpty(dir); err != nil {
			return err
		}
		c.newSecrets()
	default:
		return err
	}
	c.dir = dir
	if c.lock, err = lock(dir); err != nil {
		return err
	}
	if err := c.account.admit(dir); err != nil {
		return err
	}
	c.publish()
	return nil
}

// checkEmpty makes dir; one that holds anything is somebody's.
func checkEmpty(dir string) error {
	if err := makeParents(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is neither empty nor a cluster that `dev` made", dir)
	}
	return nil
}

// makeParents makes what is missing above dir so that the server's account, and whoever
// knows a name, can pass, whatever the umask is.
func makeParents(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeParents(parent); err != nil {
		return err
	}
	if err := os.Mkdir(parent, 0o700); err != nil {
		return err
	}
	return os.Chmod(parent, 0o711) //nolint:gosec // a directory
}

func (c *Cluster) newSecrets() {
	orRandom := func(s string) string {
		if s == "" {
			return randomText(18)
		}
		return s
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, by its documentation
	c.secrets = secrets{
		Database:            c.config.Database,
		User:                c.config.User,
		Password:            orRandom(c.config.Password),
		SuperuserPassword:   orRandom(c.config.SuperuserPassword),
		ReplicationPassword: randomText(18),
		ServicePassword:     randomText(18),
		MasterKey:           base64.StdEncoding.EncodeToString(key),
	}
	c.publish()
}

// publish copies what the ready line shows.
func (c *Cluster) publish() {
	c.Database, c.User, c.Password = c.secrets.Database, c.secrets.User, c.secrets.Password
	c.SuperuserPassword = c.secrets.SuperuserPassword
	c.AdminToken, c.VaultID = c.secrets.AdminToken, c.secrets.VaultID
}

// saveState is called when all that it names exists.
func (c *Cluster) saveState() error {
	c.publish()
	state, err := json.MarshalIndent(c.secrets, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(c.dir, stateFile), append(state, '\n'), account{})
}

// writeFile replaces a file of mode 0600 that belongs to the account. The directory may be
// the account's own, and we root: no link in it is followed, and what is given away is what
// was made here, whatever has its name by then.
func writeFile(path string, content []byte, a account) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, a.give(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error tells
	}
	return err
}

// appendFile adds to a file that is there, and is no link: as with writeFile.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
