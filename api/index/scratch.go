package index

import (
	"errors"
	"fmt"
	"os"
)

// scratchMemory is how many pages stay in memory.
const scratchMemory = 16 << 10

// scratch keeps pages: in memory, and in a temporary file once there are many.
type scratch struct {
	dir    string
	memory map[PageID][]byte
	file   *os.File
	slots  map[PageID]slot
	free   []uint32
	next   uint32
}

// slot is where a page lies in the file: its number, and its length.
type slot struct {
	at   uint32
	size uint16
}

const slotSize = pageLeaves * leafSize

// Read implements [Pages].
func (s *scratch) Read(id PageID) ([]byte, error) {
	if s.file == nil {
		page, ok := s.memory[id]
		if !ok {
			return nil, ErrPage
		}
		return page, nil
	}
	where, ok := s.slots[id]
	if !ok {
		return nil, ErrPage
	}
	page := make([]byte, where.size)
	if _, err := s.file.ReadAt(page, int64(where.at)*slotSize); err != nil {
		return nil, fmt.Errorf("the temporary file of the index: %w", err)
	}
	return page, nil
}

// put takes a page; an empty one is gone.
func (s *scratch) put(id PageID, page []byte) error {
	if s.file != nil {
		return s.write(id, page)
	}
	if len(page) == 0 {
		delete(s.memory, id)
		return nil
	}
	if s.memory == nil {
		s.memory = map[PageID][]byte{}
	}
	s.memory[id] = page
	if len(s.memory) <= scratchMemory {
		return nil
	}
	return s.spill()
}

// spill moves all pages to a file that has no name any more, so that it is gone with the process.
func (s *scratch) spill() error {
	file, err := os.CreateTemp(s.dir, ".index-*")
	if err != nil {
		return fmt.Errorf("the temporary file of the index: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return errors.Join(fmt.Errorf("the temporary file of the index: %w", err), file.Close())
	}
	s.file, s.slots = file, make(map[PageID]slot, 2*len(s.memory))
	for id, page := range s.memory {
		if err := s.write(id, page); err != nil {
			return err
		}
	}
	s.memory = nil
	return nil
}

// write writes a page to the file.
func (s *scratch) write(id PageID, page []byte) error {
	where, ok := s.slots[id]
	if len(page) == 0 {
		if ok {
			s.free = append(s.free, where.at)
			delete(s.slots, id)
		}
		return nil
	}
	if !ok {
		if n := len(s.free); n > 0 {
			where.at, s.free = s.free[n-1], s.free[:n-1]
		} else {
			where.at = s.next
			s.next++
		}
	}
	where.size = uint16(len(page))
	s.slots[id] = where
	if _, err := s.file.WriteAt(page, int64(where.at)*slotSize); err != nil {
		return fmt.Errorf("the temporary file of the index: %w", err)
	}
	return nil
}

func (s *scratch) close() error {
	file := s.file
	s.file, s.slots, s.memory = nil, nil, nil
	if file == nil {
		return nil
	}
	return file.Close()
}
