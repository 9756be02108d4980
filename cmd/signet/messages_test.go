package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the service's messages and reports tell people to type is a command that there is.
func TestCommandsInMessages(t *testing.T) {
	named := regexp.MustCompile("[`(]signet ([a-z]+(?: [a-z]+)?)")
	root := (&app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}).root()
	found := 0
	for _, folder := range []string{"../../server", "../../api", "../../keystore"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range named.FindAllStringSubmatch(string(b), -1) {
				found++
				if c, rest, err := root.Find(strings.Fields(m[1])); err != nil || !c.Runnable() || c == root || c.HasSubCommands() && len(rest) > 0 {
					t.Errorf("%s: signet %s: there is no such command", path, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 15 {
		t.Errorf("%d commands were found", found)
	}
}
