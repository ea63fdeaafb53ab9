package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// SingleFileMount reports whether path leads to a file that is mounted by itself,
// as `docker run -v ./server:/app/server` does. Such a mount stays on the file
// that was there when it was made: whatever is renamed over that file on the host
// is another one, which this mount namespace never shows (mount_namespaces(7)).
func SingleFileMount(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	if st, err := os.Stat(real); err != nil || !st.Mode().IsRegular() {
		return false
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && mountedAt(string(b), real)
}

// mountedAt finds a mount point in the text of /proc/PID/mountinfo, proc(5).
func mountedAt(mountinfo, path string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) > 4 && unescape(fields[4]) == path {
			return true
		}
	}
	return false
}

// unescape undoes the octal escapes of blanks and backslashes: \040.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
