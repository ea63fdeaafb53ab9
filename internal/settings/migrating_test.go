package settings

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// What the pages about several programs name exists, and a program's file may say it.
func TestThePagesAboutProgramsNameWhatAFileMaySay(t *testing.T) {
	for _, page := range []string{"migrating-programs.md", "../examples/web-stack/programs/php.env", "../examples/web-stack/programs/nginx.env", "../examples/web-stack/programs/cleanup.env"} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`HOTINIT_[A-Z_]+`).FindAllString(string(b), -1) {
			ok := name == CommandVariable || slices.ContainsFunc(options[:], func(o option) bool {
				return o.env != "" && o.variable() == name && o.of != hotinits
			})
			if !ok {
				t.Errorf("%s names %s", page, name)
			}
		}
	}
}
