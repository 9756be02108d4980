package lostwrites

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// script makes the log of a disk without a file system: letters write that letter to a whole sector.
type script struct {
	d       Disk
	content map[uint64]*content
}

func newScript() *script {
	s := &script{content: map[uint64]*content{}}
	s.d.next = 1
	return s
}

func (s *script) create(name string) uint64 {
	s.d.next++
	s.d.add(record{kind: Create, file: s.d.next, folder: 1, name: name, mode: 0o600})
	s.content[s.d.next] = &content{}
	return s.d.next
}

func (s *script) write(file uint64, sectors string, at int64) {
	data := make([]byte, 0, len(sectors)*sector)
	for _, c := range sectors {
		data = append(data, bytes.Repeat([]byte{byte(c)}, sector)...)
	}
	if _, errno := s.d.write(file, "", s.content[file], data, at*sector); errno != 0 {
		panic(errno)
	}
}

func (s *script) sync(file uint64) { s.d.sync(file, "") }
func (s *script) failSync(file uint64) {
	s.d.add(record{kind: Sync, file: file, before: len(s.d.log), failed: true})
}

func (s *script) rename(file uint64, from, to string) {
	s.d.add(record{kind: Rename, file: file, folder: 1, name: to, from: 1, oldName: from})
}

// outcomes returns all that cuts at the end leave, as "name=sectors" in the order of the names; . is a sector of zeros.
func (s *script) outcomes(t *testing.T) map[string]bool {
	t.Helper()
	c := s.d.Cursor()
	c.Advance(c.Len())
	out := map[string]bool{}
	r := rand.New(rand.NewPCG(7, 7))
	dir := scratch(t)
	for i := range 300 {
		folder := filepath.Join(dir, "image")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.Cut(Loss(i)%losses, r).WriteTo(folder); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(folder, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			text += f.Name() + "="
			for at := 0; at < len(b); at += sector {
				if text += string(b[at]); b[at] == 0 {
					text = text[:len(text)-1] + "."
				}
			}
			text += " "
		}
		out[text] = true
		os.RemoveAll(folder)
	}
	return out
}

// The model does what the package says: nothing else is certain than what an fsync has covered, and all the rest is possible.
func TestModel(t *testing.T) {
	for name, c := range map[string]struct {
		script func(s *script)
		want   []string
	}{
		"a file that nobody has synced": {func(s *script) { s.write(s.create("f"), "a", 0) }, []string{"", "f= ", "f=a ", "f=. "}},
		"its name is its folder's": {func(s *script) {
			f := s.create("f")
			s.write(f, "a", 0)
			s.sync(f)
		}, []string{"", "f=a "}},
		"all is synced": {func(s *script) {
			f := s.create("f")
			s.write(f, "ab", 0)
			s.sync(f)
			s.sync(1)
		}, []string{"f=ab "}},
		"torn, and reordered": {func(s *script) {
			f := s.create("f")
			s.write(f, "ab", 0)
			s.sync(f)
			s.sync(1)
			s.write(f, "cd", 0)
			s.write(f, "e", 1)
		}, []string{"f=ab ", "f=cb ", "f=ad ", "f=cd ", "f=ae ", "f=ce "}},
		"what is written after an fsync is not covered": {func(s *script) {
			f := s.create("f")
			s.write(f, "a", 0)
			s.sync(1)
			s.sync(f)
			s.write(f, "b", 0)
		}, []string{"f=a ", "f=b "}},
		"renamed before it is synced": {func(s *script) {
			f, g := s.create("f"), s.create("g")
			s.write(f, "a", 0)
			s.sync(f)
			s.sync(1)
			s.write(g, "b", 0)
			s.rename(g, "g", "f")
		}, []string{"f=a g=b ", "f=a g= ", "f=a g=. ", "f=b ", "f= ", "f=. "}},
		"renamed after it is synced": {func(s *script) {
			f, g := s.create("f"), s.create("g")
			s.write(f, "a", 0)
			s.sync(f)
			s.sync(1)
			s.write(g, "b", 0)
			s.sync(g)
			s.rename(g, "g", "f")
		}, []string{"f=a g=b ", "f=b "}},
		"an fsync that failed, and one that did not": {func(s *script) {
			f := s.create("f")
			s.write(f, "ab", 0)
			s.sync(f)
			s.sync(1)
			s.write(f, "c", 0)
			s.failSync(f)
			s.write(f, "d", 1)
			s.sync(f)
		}, []string{"f=ad ", "f=cd "}},
		"what was written again after it failed": {func(s *script) {
			f := s.create("f")
			s.write(f, "a", 0)
			s.sync(f)
			s.sync(1)
			s.write(f, "c", 0)
			s.failSync(f)
			s.write(f, "c", 0)
			s.sync(f)
		}, []string{"f=c "}},
		"cut off and grown again": {func(s *script) {
			f := s.create("f")
			s.write(f, "ab", 0)
			s.sync(f)
			s.sync(1)
			s.d.resize(f, "", s.content[f], sector)
			s.d.resize(f, "", s.content[f], 2*sector)
		}, []string{"f=ab ", "f=a ", "f=a. "}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			c.script(s)
			got, want := s.outcomes(t), map[string]bool{}
			for _, w := range c.want {
				if want[w] = true; !got[w] {
					t.Errorf("%q is possible, and never came", w)
				}
			}
			for g := range got {
				if !want[g] {
					t.Errorf("%q is impossible, and came", g)
				}
			}
		})
	}
	t.Run("a log of its own goes on", func(t *testing.T) {
		s := newScript()
		f := s.create("f")
		s.write(f, "ab", 0)
		s.sync(f)
		s.sync(1)
		c := s.d.Cursor()
		c.Advance(c.Len())
		next := &Disk{}
		next.Load(c.Cut(All, rand.New(rand.NewPCG(1, 1))))
		if got := fmt.Sprint(len(next.first)); got != "4" { // the name, the size, two sectors
			t.Errorf("%s records", got)
		}
		c = next.Cursor()
		if i := c.Cut(All, rand.New(rand.NewPCG(1, 1))); i.files[f].size != 2*sector || len(i.files[f].sectors) != 2 {
			t.Errorf("%+v", i)
		}
	})
}
