package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is what the test needs to know of a Grafana dashboard.
type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name string `json:"name"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []target `json:"targets"`
}

type target struct {
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

func readDashboard(t *testing.T, path string) dashboard {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return d
}

// series is what a query may select: a name in the exposition, with its labels.
type series struct {
	labels  []string
	counter bool
}

// exposed lists every series of the registry by the name that a query uses. Prometheus itself adds instance and job.
func exposed(fs map[string]*dto.MetricFamily) map[string]series {
	out := map[string]series{}
	for name, f := range fs {
		labels := []string{"instance", "job"}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		switch f.GetType() {
		case dto.MetricType_HISTOGRAM:
			out[name+"_bucket"] = series{append(slices.Clone(labels), "le"), true}
			out[name+"_sum"] = series{labels, true}
			out[name+"_count"] = series{labels, true}
		default:
			out[name] = series{labels, f.GetType() == dto.MetricType_COUNTER}
		}
	}
	return out
}

var legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// check returns what is wrong with one query, and the names that it selects.
func check(q target, known map[string]series) (problems, used []string) {
	expr := strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h").Replace(q.Expr)
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}, nil
	}
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	available := []string{}
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		sel, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		s, ok := known[sel.Name]
		if !ok {
			bad("no metric %q", sel.Name)
			return nil
		}
		used = append(used, sel.Name)
		available = append(available, s.labels...)
		for _, m := range sel.LabelMatchers {
			if m.Name != "__name__" && !slices.Contains(s.labels, m.Name) {
				bad("%s has no label %q", sel.Name, m.Name)
			}
		}
		rated := false
		for _, p := range path {
			if c, ok := p.(*parser.Call); ok && slices.Contains([]string{"rate", "increase", "irate"}, c.Func.Name) {
				rated = true
			}
		}
		if rated != s.counter {
			bad("%s: counter is %t, but rate is %t", sel.Name, s.counter, rated)
		}
		return nil
	})
	kept := available // labels of the result
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		a, ok := n.(*parser.AggregateExpr)
		if !ok || a.Op == parser.TOPK || a.Op == parser.BOTTOMK {
			return nil
		}
		for _, l := range a.Grouping {
			if !slices.Contains(available, l) {
				bad("by (%s): no such label", l)
			}
		}
		if !a.Without {
			kept = a.Grouping
		}
		return nil
	})
	for _, m := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
		if !slices.Contains(kept, m[1]) {
			bad("legend {{%s}}: the result has only %v", m[1], kept)
		}
	}
	return problems, used
}

func TestDashboardAsksForWhatExists(t *testing.T) {
	known := exposed(families(t, full()))
	d := readDashboard(t, "../../dashboards/mosix.json")
	variables := []string{}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	used := map[string]bool{}
	queries := 0
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s: draws nothing", p.Title)
		}
		for _, q := range p.Targets {
			queries++
			problems, names := check(q, known)
			for _, problem := range problems {
				t.Errorf("%s: %s: %s", p.Title, q.Expr, problem)
			}
			for _, n := range names {
				used[n] = true
			}
			for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !strings.HasPrefix(v[1], "__") && !slices.Contains(variables, v[1]) {
					t.Errorf("%s: no variable $%s", p.Title, v[1])
				}
			}
		}
	}
	if queries < 20 {
		t.Errorf("only %d queries were found: is the file a dashboard?", queries)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "mosix_") && !used[name] && !used[base+"_bucket"] && !used[base+"_count"] {
			t.Errorf("%s is exported and drawn nowhere", name)
		}
	}
}

// The check itself must notice what it is there for.
func TestCheckNotices(t *testing.T) {
	known := exposed(families(t, full()))
	for _, tc := range []struct{ expr, legend, says string }{
		{`mosix_laod`, "", "no metric"},
		{`mosix_load{`, "", "parse error"},
		{`mosix_load{node="n1"}`, "", `no label "node"`},
		{`mosix_moves_total`, "", "rate is false"},
		{`rate(mosix_load[5m])`, "", "rate is true"},
		{`sum by (pid) (mosix_load)`, "", "by (pid)"},
		{`sum(mosix_load)`, "{{instance}}", "legend {{instance}}"},
		{`rate(mosix_move_freeze_seconds[5m])`, "", "no metric"},
	} {
		problems, _ := check(target{tc.expr, tc.legend}, known)
		if !strings.Contains(strings.Join(problems, "\n"), tc.says) {
			t.Errorf("%s: got %q, want %q", tc.expr, problems, tc.says)
		}
	}
}

func TestDashboardLayout(t *testing.T) {
	panels := readDashboard(t, "../../dashboards/mosix.json").Panels
	ids := map[int]string{}
	for i, p := range panels {
		if other, ok := ids[p.ID]; ok {
			t.Errorf("%s and %s have the same id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W <= 0 || p.GridPos.H <= 0 {
			t.Errorf("%s does not fit the 24 columns: %+v", p.Title, p.GridPos)
		}
		for _, o := range panels[:i] {
			a, b := p.GridPos, o.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies over %s", p.Title, o.Title)
			}
		}
	}
}
