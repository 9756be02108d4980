package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/signetd/signet/clients/go/signet"
)

// browserPause is how often the server is asked whether the statement was signed in the browser.
const browserPause = time.Second

// signInBrowser opens the page of one prepared statement, and waits until it was signed there. The credentials are typed there, not here.
func (a *app) signInBrowser(ctx context.Context, client *signet.Client, prepared *signet.Prepared) (*signet.Signed, error) {
	page, err := client.Page(ctx, prepared)
	if err != nil {
		return nil, err
	}
	a.printer(a.stderr).line("Read and sign it here, before %s:\n  %s", when(prepared.Expires), clean(page)) // with --json, too: without it nobody could go on
	if err := openBrowser(ctx, page); err != nil {
		a.notice("No browser could be opened (%s): open the page yourself.", cleanText(err.Error()))
	}
	signed, err := client.Await(ctx, prepared, browserPause)
	if errors.Is(err, signet.ErrNotSigned) {
		return nil, withNext(err, "nothing was signed; run the same command again")
	}
	return signed, err
}

// openBrowser shows a page in the browser of $BROWSER, or in the system's own.
func openBrowser(ctx context.Context, page string) error {
	program, arguments := "xdg-open", []string{page}
	switch runtime.GOOS {
	case "darwin":
		program = "open"
	case "windows":
		program, arguments = "rundll32", []string{"url.dll,FileProtocolHandler", page}
	}
	if own := os.Getenv("BROWSER"); own != "" {
		program, arguments = own, []string{page}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, arguments...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	go func() { _ = cmd.Wait() }() // whether it could show the page is for its user to see
	return nil
}
