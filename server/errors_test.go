package server_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/server"
)

// Each row of the table of errors means to callers what it says: none is hidden by one before it, an error that wraps it means the same, and
// nothing of what is stored badly, or unknown, is shown.
func TestErrorTable(t *testing.T) {
	word := regexp.MustCompile(`^[A-Z][A-Z_]*[A-Z]$`)
	for _, row := range server.ErrorRows() {
		s := status.Convert(server.ToStatus(t.Context(), slog.New(slog.DiscardHandler), "/m", fmt.Errorf("record 7 of /srv: %w", row.Err)))
		var reason, domain string
		retry := false
		for _, d := range s.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				reason, domain = d.GetReason(), d.GetDomain()
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration() == row.Retry
			}
		}
		if s.Code() != row.Code || reason != row.Reason || domain != server.Domain || retry != (row.Retry > 0) || !word.MatchString(reason) {
			t.Errorf("%v means %s %s (retry %v), want %s %s (%v)", row.Err, s.Code(), reason, retry, row.Code, row.Reason, row.Retry)
		}
		if shown := strings.Contains(s.Message(), "record 7"); shown == (row.Code == codes.DataLoss) {
			t.Errorf("%v, %s: %q", row.Err, row.Code, s.Message())
		}
	}
	s := status.Convert(server.ToStatus(t.Context(), slog.New(slog.DiscardHandler), "/m", errors.New("open /srv/secret: no such file")))
	if s.Code() != codes.Internal || strings.Contains(s.Message(), "secret") || len(s.Details()) != 1 {
		t.Errorf("an unknown error means %v", s)
	}
}

// notShown are the errors that no caller sees, and why.
var notShown = map[string]string{
	"ledger.ErrInvalid":         "a mistake in the program: Internal, and in the log",
	"ledger.ErrLocked":          "at the start",
	"ledger.ErrNewerVersion":    "at the start",
	"ledger.ErrScrubbing":       "of the status socket",
	"notify.ErrContactTampered": "of the scrub, and recorded as why news have not arrived",
	"rights.ErrNotDesignated":   "within signing.ErrNotDesignated",
	"rights.ErrInvalid":         "within signing.ErrApprover",
	"tiles.ErrMalformed":        "of an import",
	"tsa.ErrConfig":             "at the start",
	"tsa.ErrUnsynchronised":     "within tsa.ErrClock",
}

// Every error value that a package below the server exports has a row, or is known to be seen by no caller.
func TestErrorsHaveRows(t *testing.T) {
	table, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range []string{"blob", "identity", "index", "ledger", "notify", "rights", "signing", "tiles", "tsa"} {
		set := token.NewFileSet()
		files, err := filepath.Glob(filepath.Join("internal", name, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(name, err, fs.ErrNotExist)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, spec := range g.Specs {
					for _, id := range spec.(*ast.ValueSpec).Names {
						if !strings.HasPrefix(id.Name, "Err") {
							continue
						}
						found++
						has := strings.Contains(string(table), name+"."+id.Name+",")
						if why := notShown[name+"."+id.Name]; has == (why != "") {
							t.Errorf("%s.%s: row %v, %q", name, id.Name, has, why)
						}
					}
				}
			}
		}
	}
	if found < 80 {
		t.Errorf("only %d error values were found", found)
	}
}
