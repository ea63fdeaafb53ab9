package tests

import (
	"testing"

	"github.com/hotinit/hotinit/tests/box"
)

func TestMain(m *testing.M) { box.Main(m) }
