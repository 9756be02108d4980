package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
)

// Claim is a place in the test sources that names a row: so that a test that was not run is not taken for none.
type Claim struct {
	Row     string
	Package string // import path; tests in package x_test count as x's, as in go test
	Func    string // top-level function it stands in; empty outside of any
	Where   string // file:line below the source folder
	Exact   bool   // a literal argument of Attr; otherwise a row's id beside an Attr whose argument is computed
}

// scanClaims reads every _test.go file below folder. Files behind build constraints count too: a test that this
// machine cannot run is still a test that was not run.
func scanClaims(folder string, rows []Row) ([]Claim, error) {
	known := map[string]bool{}
	for _, r := range rows {
		known[r.ID] = true
	}
	modules := map[string]string{}  // folder below the root → import path
	packages := map[string]*found{} // by import path
	var claims []Claim
	err := filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (name == "testdata" || name == "vendor" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			modules[rel], err = importPath(file, rel, modules)
			return err
		}
		if !strings.HasSuffix(file, "_test.go") || !d.Type().IsRegular() {
			return nil
		}
		pkg := modules[path.Dir(rel)]
		if packages[pkg] == nil {
			packages[pkg] = &found{}
		}
		return packages[pkg].scan(file, rel, pkg, known)
	})
	if err != nil {
		return nil, fmt.Errorf("test sources: %w", err)
	}
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		claims = append(claims, packages[pkg].exact...)
		if packages[pkg].computed {
			claims = append(claims, packages[pkg].loose...)
		}
	}
	return claims, nil
}

// found is what the test files of one package name.
type found struct {
	exact, loose []Claim
	computed     bool // an Attr takes a row that is not a literal
}

// importPath is that of a folder: of its own go.mod, or below that of the folder above.
func importPath(folder, rel string, above map[string]string) (string, error) {
	b, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	switch {
	case err == nil:
		module := modfile.ModulePath(b)
		if module == "" {
			return "", fmt.Errorf("%s/go.mod names no module", rel)
		}
		return module, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	case rel == ".":
		return "", errors.New("the source folder has no go.mod; name the folder of a module with -source")
	}
	return path.Join(above[path.Dir(rel)], path.Base(rel)), nil
}

func (f *found) scan(file, rel, pkg string, known map[string]bool) error {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, declaration := range tree.Decls {
		function := ""
		if d, ok := declaration.(*ast.FuncDecl); ok && d.Recv == nil {
			function = d.Name.Name
		}
		claim := func(row string, at token.Pos, exact bool) Claim {
			return Claim{Row: row, Package: pkg, Func: function, Where: rel + ":" + strconv.Itoa(set.Position(at).Line), Exact: exact}
		}
		literals := map[ast.Node]bool{} // those that an Attr takes
		ast.Inspect(declaration, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if !isAttr(n) {
					return true
				}
				if row, ok := text(n.Args[1]); ok {
					literals[n.Args[1]] = true
					f.exact = append(f.exact, claim(row, n.Pos(), true))
				} else {
					f.computed = true
				}
			case *ast.BasicLit:
				if row, ok := text(n); ok && known[row] && !literals[n] {
					f.loose = append(f.loose, claim(row, n.Pos(), false))
				}
			}
			return true
		})
	}
	return nil
}

// isAttr tells calls such as t.Attr("requirement", …).
func isAttr(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Attr" || len(call.Args) != 2 {
		return false
	}
	key, ok := text(call.Args[0])
	return ok && key == attribute
}

func text(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}
