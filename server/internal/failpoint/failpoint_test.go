package failpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/failpoint/failpointtest"
)

// root is the module's folder.
const root = "../../.."

// Every name in the code is in the table, every name in the table is in the code, every comment that names a crash point
// is followed by its call, and every call stands below such a comment.
func TestTableIsComplete(t *testing.T) {
	points := failpoint.Points()
	called := map[string]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); path != root && strings.HasPrefix(name, ".") && name != ".." || name == "failpoint" || name == "dist" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(b, []byte("failpoint.")) && !bytes.Contains(b, []byte("Crash point:")) {
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		named := map[int]bool{} // the line below a comment that names a crash point
		for _, group := range f.Comments {
			if strings.Contains(group.Text(), "Crash point:") {
				named[files.Position(group.End()).Line+1] = true
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			what, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := what.X.(*ast.Ident); !ok || pkg.Name != "failpoint" || what.Sel.Name != "Hit" && what.Sel.Name != "Err" {
				return true
			}
			at := files.Position(call.Pos())
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a failpoint's name is written where it stands, as a string", at)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if points[name] == "" {
				t.Errorf("%s: %q is not in failpoint.Points: add it there, with a sentence", at, name)
			}
			called[name]++
			if !named[at.Line] {
				t.Errorf("%s: no comment above it says \"Crash point: …\"", at)
			}
			delete(named, at.Line)
			return true
		})
		if inKeystore := strings.HasPrefix(filepath.ToSlash(path), root+"/keystore/"); !inKeystore { // reached through the module
			for line := range named {
				t.Errorf("%s:%d: a crash point without failpoint.Hit below its comment", path, line-1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(points)) {
		if called[name] != 1 {
			t.Errorf("%q is in failpoint.Points and stands at %d places in the code, not at one", name, called[name])
		}
	}
}

// TestVisit is the program that TestTagged runs: built with the tag, it visits two places.
func TestVisit(t *testing.T) {
	if os.Getenv("SIGNET_FAILPOINT_VISIT") == "" {
		t.Skip("started by TestTagged")
	}
	failpoint.Hit("ledger.after-commit")
	if err := failpoint.Err("ledger.before-commit"); err != nil {
		fmt.Println("got", err, errors.Is(err, failpoint.ErrInjected))
	}
	failpoint.Hit("ledger.after-commit")
	fmt.Println("went through", failpoint.Enabled)
}

// What the variable says is what happens, and only in a program with the tag.
func TestTagged(t *testing.T) {
	tagged := failpointtest.TestProgram(t, ".")
	for _, c := range []struct {
		program, plan string
		killed        bool
		status        int
		out           string
	}{
		{os.Args[0], "ledger.after-commit", false, 0, fmt.Sprint("went through ", failpoint.Enabled)},
		{tagged, "", false, 0, "went through true"},
		{tagged, "ledger.after-commit", true, -1, "killed at ledger.after-commit"},
		{tagged, "ledger.after-commit:2", true, -1, "killed at ledger.after-commit"},
		{tagged, "ledger.after-commit:3", false, 0, "went through true"},
		{tagged, "ledger.before-commit=error", false, 0, "got failpoint: failed as it was told to at ledger.before-commit true"},
		{tagged, "ledger.before-commit", true, -1, "killed at ledger.before-commit"},
		{tagged, "*:2", true, -1, "killed at ledger.before-commit"},
		{tagged, "ledger.befor-commit", false, 2, "no place is named"},
	} {
		if failpoint.Enabled && c.program == os.Args[0] {
			continue
		}
		cmd := exec.CommandContext(t.Context(), c.program, "-test.run=^TestVisit$", "-test.v")
		cmd.Env = append(os.Environ(), "SIGNET_FAILPOINT_VISIT=1", failpoint.Variable+"="+c.plan)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if killed := failpointtest.Killed(cmd.ProcessState); killed != c.killed || cmd.ProcessState.ExitCode() != c.status || !bytes.Contains(out, []byte(c.out)) {
			t.Errorf("%q: killed %t, status %d: %s", c.plan, killed, cmd.ProcessState.ExitCode(), out)
		}
	}
}
