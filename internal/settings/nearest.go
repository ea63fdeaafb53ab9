package settings

// nearest is the word of words that is most like word, "" if none is like it.
func nearest(word string, words []string) string {
	best, found := 1+len(word)/3, ""
	for _, w := range words {
		if d := distance(word, w); d <= best && (found == "" || d < best) {
			best, found = d, w
		}
	}
	return found
}

// distance is how many letters must be changed, added, removed or swapped with
// their neighbour to make a out of b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j-1]+change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
