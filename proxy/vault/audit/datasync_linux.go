// SPDX-License-Identifier: GPL-3.0-or-later

package audit

/*
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

// Answers each descriptor that comes by a socket with what became of its sync; of one
// whose complement comes all is synced, as a directory needs it.
static void *answer_syncs(void *socket)
{
	int by = (int) (intptr_t) socket, fd;

	while (read(by, &fd, sizeof fd) == sizeof fd) {
		int error = (fd >= 0 ? fdatasync(fd) : fsync(~fd)) == 0 ? 0 : errno;

		if (write(by, &error, sizeof error) != sizeof error)
			break;
	}
	close(by);
	return NULL;
}

// A thread that takes no signals, with a small stack.
static int start_syncs(int socket)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	if ((error = pthread_attr_init(&attr)) != 0)
		return error;
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attr, answer_syncs, (void *) (intptr_t) socket);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return error;
}
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// syncs is a thread that syncs files, and that Go's scheduler does not know: in a system call
// of Go's own a sync would keep a processor, of which a node has one most of the time, from
// all sessions until Go notices.
type syncs struct {
	mu     sync.Mutex // one at a time
	by     *os.File   // a socket to the thread
	broken error      // once set, no answer is known to be the asker's
}

var startedSyncs = sync.OnceValues(startSyncs)

func startSyncs() (*syncs, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(ends[0], true) // Linux cannot refuse it
	}
	if err != nil {
		return nil, fmt.Errorf("a socket for syncs: %w", err)
	}
	if e := C.start_syncs(C.int(ends[1])); e != 0 {
		_, _ = unix.Close(ends[0]), unix.Close(ends[1]) // nothing was sent
		return nil, fmt.Errorf("a thread for syncs: %w", syscall.Errno(e))
	}
	return &syncs{by: os.NewFile(uintptr(ends[0]), "syncs")}, nil
}

// datasync makes a file's content and size durable, without its times.
func datasync(fd int) error { return syncByThread(fd) }

// dirsync makes durable which names a directory has.
func dirsync(fd int) error { return syncByThread(^fd) }

func syncByThread(job int) error {
	s, err := startedSyncs()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	var word [4]byte
	binary.NativeEndian.PutUint32(word[:], uint32(job)) // a descriptor or its complement: small
	if _, s.broken = s.by.Write(word[:]); s.broken == nil {
		_, s.broken = io.ReadFull(s.by, word[:])
	}
	if s.broken != nil {
		return s.broken
	}
	if e := syscall.Errno(binary.NativeEndian.Uint32(word[:])); e != 0 {
		return e
	}
	return nil
}
