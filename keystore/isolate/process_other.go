//go:build !linux

package isolate

import (
	"errors"
	"io"
	"net"
	"os/exec"
)

const self = ""

var errLinux = errors.New("worker processes need Linux; let the service load the PKCS#11 module itself")

// Inherited needs Linux.
func Inherited() (net.Conn, error) { return nil, errLinux }

func readBuild() (string, error) { return "", errLinux }

type spawner struct{}

func newSpawner() (*spawner, error) { return nil, errLinux }

func (s *spawner) end() {}

func (s *spawner) start(_, _ []string, _ io.Writer) (*exec.Cmd, net.Conn, error) {
	return nil, nil, errLinux
}

func kill(int) {}

func awaitDeath(int) {}
