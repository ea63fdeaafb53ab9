package metrics

import (
	"strings"
	"testing"
)

func TestTheTextHasEachFamilyOnce(t *testing.T) {
	var b strings.Builder
	err := Write(&b, []Family{
		{Name: "a_total", Help: "A \\ and\na line.", Kind: Counter, Samples: []Sample{{Value: 1}}},
		{Name: "b", Help: "B.", Kind: Gauge, Samples: []Sample{
			{Labels: Labels("path", "C:\\x\"y\nz\xff"), Value: 0.25},
			{Labels: Labels("path", "", "other", "é"), Value: 1e21},
		}},
		{Name: "none", Help: "Left out.", Kind: Gauge},
		{Name: "h", Help: "H.", Kind: Histogram, Samples: []Sample{
			{Labels: Labels("l", "v"), Value: 3.5, Count: 4, Buckets: []Bucket{{0.5, 1}, {1, 3}}},
			{Count: 1, Value: 2},
		}},
	})
	want := `# HELP a_total A \\ and\na line.
# TYPE a_total counter
a_total 1
# HELP b B.
# TYPE b gauge
b{path="C:\\x\"y\nz�"} 0.25
b{path="",other="é"} 1e+21
# HELP h H.
# TYPE h histogram
h_bucket{l="v",le="0.5"} 1
h_bucket{l="v",le="1"} 3
h_bucket{l="v",le="+Inf"} 4
h_sum{l="v"} 3.5
h_count{l="v"} 4
h_bucket{le="+Inf"} 1
h_sum 2
h_count 1
`
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}
