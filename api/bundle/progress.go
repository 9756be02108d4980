package bundle

import "sync"

// Progress is how far reading has come.
type Progress struct {
	// Files is how many files are done, TotalFiles how many there are; 0: not known (in a tar, and in a folder
	// while more of it may be found).
	Files, TotalFiles int64
	// Bytes is how much is read, TotalBytes how much there is to read: of content, or, in a tar, of the archive's own
	// bytes. 0: not known yet.
	Bytes, TotalBytes int64
}

// meter adds up progress and tells it at every hundredth of the files, or every 8 MiB; while their number is not known, at the first file and at every
// thousandth.
type meter struct {
	mu   sync.Mutex
	now  Progress
	told int64
	fn   func(Progress)
}

func newMeter(fn func(Progress), files, bytes int64) *meter {
	return &meter{fn: fn, now: Progress{TotalFiles: files, TotalBytes: bytes}}
}

func (m *meter) add(files, bytes int64) {
	if m.fn == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Files += files
	m.now.Bytes += bytes
	each := max(1, m.now.TotalFiles/100)
	if m.now.TotalFiles == 0 && m.now.Files > 1 {
		each = 1000
	}
	if m.now.Bytes-m.told >= 8<<20 || files > 0 && m.now.Files%each == 0 {
		m.told = m.now.Bytes
		m.fn(m.now)
	}
}

// total says how much there is.
func (m *meter) total(files, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.TotalFiles, m.now.TotalBytes = files, bytes
}

// done tells the end.
func (m *meter) done() {
	if m.fn == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fn(m.now)
}
