package share

import "time"

// A request that waits.
type queued struct {
	id, arrival uint64
	lane        touched
	ask         charge
	asked       time.Time
	// Zero if nobody says.
	until time.Time
	// Where it stands among the deadlines.
	index int
}

// Which of the share's rates a request touches, a bit for each.
type touched [limitsMax / 64]uint64

func (t touched) overlaps(other touched) bool {
	for i := range t {
		if t[i]&other[i] != 0 {
			return true
		}
	}
	return false
}

func (t *touched) add(other touched) {
	for i := range t {
		t[i] |= other[i]
	}
}

// deadlines is a heap of what waits, the earliest first.
type deadlines []*queued

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].until.Before(d[j].until) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *deadlines) Push(entry any) {
	entry.(*queued).index = len(*d)
	*d = append(*d, entry.(*queued))
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	entry := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return entry
}
