// Command signet is the command line of Signet: people sign with it, release managers make records with it, auditors read
// the ledger with it, and anybody verifies a signed release with it, offline.
//
// `signet help` lists the commands, `signet help json` the fields of every --json, `signet help exit` the exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker: -ldflags "-X main.version=v0.1.0".
var version = "dev"

func main() {
	os.Exit(run())
}

// run is main with an exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // a list of 100,000 files fits into 100 MiB, whatever else runs on the machine
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	command := a.root()
	command.SetArgs(os.Args[1:])
	return a.report(command.ExecuteContext(ctx))
}
