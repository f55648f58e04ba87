package sqltext

import (
	"strings"
	"unicode/utf8"
)

// Names finds names in a text, far faster than [Uses] finds what is done with them: most texts hold none. It reports a name also where it
// is part of a longer word, in a string or in a comment.
type Names struct {
	names []string
	// span is how many bytes at the beginning of each name are searched for at a time, and skip tells, by the last two bytes of a
	// window of that length, how far the next window may begin behind this one; 0 where a name may begin with it.
	span int
	skip [1 << 10]uint8
}

// NewNames takes names as they are written. With a name that is not all ASCII it takes every text for one that holds it: the other case of
// such a letter may have another length, or be an ASCII letter, as that of İ is.
func NewNames(names []string) Names {
	n := Names{names: names, span: 64}
	for _, name := range names {
		n.span = min(n.span, len(name))
		if strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
			n.span = 0
		}
	}
	for i := range n.skip {
		n.skip[i] = uint8(max(n.span-1, 0))
	}
	for _, name := range names {
		for end := 2; end <= n.span; end++ {
			s := &n.skip[pair(name, end)]
			*s = min(*s, uint8(n.span-end))
		}
	}
	return n
}

// pair is the two bytes that end at a place. Five bits of each are the same for both cases of a letter.
func pair(text string, end int) int { return int(text[end-2]&31)<<5 | int(text[end-1]&31) }

// In reports whether a text holds one of the names, without regard to case.
func (n *Names) In(text string) bool {
	if n.span < 2 {
		return len(n.names) > 0 // too little to search for
	}
	for end := n.span; end <= len(text); {
		skip := int(n.skip[pair(text, end)])
		if skip > 0 {
			end += skip
			continue
		}
		for _, name := range n.names {
			if from := text[end-n.span:]; len(from) >= len(name) && strings.EqualFold(from[:len(name)], name) {
				return true
			}
		}
		end++
	}
	return false
}
