// Package real starts permitd servers for tests and benchmarks, each in a process of its own.
package real

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Server is a running `permitd serve`, killed when the test ends.
type Server struct {
	t       testing.TB
	address string
	config  string
	process *exec.Cmd
}

// Start serves this configuration on a port that the system chooses.
func Start(t testing.TB, config string) *Server {
	t.Helper()
	return start(t, "127.0.0.1:0", config)
}

func start(t testing.TB, address, config string) *Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "permitd.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	line, process := Launch(t, Binary("PERMITD_BIN", "permitd"),
		"serve", "--listen", address, "--http", "off", "--data", "none", "--config", file)
	_, rest, found := strings.Cut(line, "gRPC at ")
	if !found {
		t.Fatalf("permitd says %q", line)
	}
	address, _, _ = strings.Cut(rest, ",")
	return &Server{t: t, address: address, config: config, process: process}
}

// Endpoint is where clients find it.
func (s *Server) Endpoint() string { return "http://" + s.address }

// Kill ends it as a crash does.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	_ = s.process.Wait()
}

// Stop tells it to drain, and waits for its end.
func (s *Server) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if err := s.process.Wait(); err != nil {
		s.t.Errorf("a drained server ends well: %v", err)
	}
}

// Again starts another one on the address of one that has ended.
func (s *Server) Again() *Server {
	s.t.Helper()
	return start(s.t, s.address, s.config)
}

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// Binary is the path of one of the project's programs: as the environment says, or where `cargo build` puts it.
func Binary(variable, name string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "../../../../target/debug", name)
}

// Launch starts a program, which is killed when the test ends, and waits for its first line.
func Launch(t testing.TB, binary string, arguments ...string) (string, *exec.Cmd) {
	t.Helper()
	process := exec.Command(binary, arguments...)
	process.Stderr = os.Stderr
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatalf("%v; build it first: cargo build -p permitd -p permitd-lab", err)
	}
	t.Cleanup(func() {
		// One that has ended by itself is as good.
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s says nothing: %v", binary, err)
	}
	return strings.TrimSpace(line), process
}
