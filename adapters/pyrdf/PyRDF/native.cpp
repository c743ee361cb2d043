// Graphs of strings, booked, compiled and run without Python's view of ROOT: a proxy for each class and a
// wrapper for each method that Python meets cost more than a second in a fresh process (ROOT 6.40).
//
// `PyRDF.native` calls these functions by ctypes. Each returns false, or a null pointer, after an
// exception; PyRDFError() then says which. What a function lends lives until the thread's next call.
#define PYRDF_DEFINE
#include "precompiled.h"

#include "helpers.h"

#include <ROOT/InternalTreeUtils.hxx>
#include <ROOT/RNTupleDS.hxx>
#include <ROOT/RNTupleReader.hxx>
#include <TBufferFile.h>
#include <TClass.h>
#include <TEnv.h>
#include <TError.h>
#include <TFile.h>
#include <TGraph.h>
#include <TH2D.h>
#include <TH3D.h>
#include <TInterpreter.h>
#include <TList.h>
#include <TProfile2D.h>
#include <TROOT.h>
#include <TStatistic.h>
#include <TSystem.h>
#include <TTree.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {
using ROOT::RDF::RNode;
using Spec = ROOT::RDF::Experimental::RDatasetSpec;
using Strings = const char *const *;

thread_local std::string gError;
thread_local std::string gType;
thread_local std::string gData;

template <typename F>
bool Guarded(F function)
{
   try {
      function();
      return true;
   } catch (const std::exception &error) {
      gError = error.what();
   } catch (...) {
      gError = "an exception that is none of std::exception";
   }
   return false;
}

std::vector<std::string> List(Strings strings, std::size_t size)
{
   return {strings, strings + size};
}

template <typename T>
void Append(const T &value)
{
   gData.append(reinterpret_cast<const char *>(&value), sizeof value);
}

// As Python pickles it: `PyRDF.codec`.
void Write(const TObject &object)
{
   TBufferFile buffer(TBuffer::kWrite);
   if (buffer.WriteObjectAny(&object, object.IsA()) != 1)
      throw std::runtime_error(std::string("a ") + object.ClassName() + " cannot be written");
   gType = object.ClassName();
   gData.assign(buffer.Buffer(), buffer.Length());
}

std::unique_ptr<TObject> Read(const char *data, std::size_t size)
{
   TDirectory::TContext nowhere(nullptr); // nothing else owns it
   TBufferFile buffer(TBuffer::kRead, size, const_cast<char *>(data), false);
   auto object = static_cast<TObject *>(buffer.ReadObjectAny(TObject::Class()));
   if (!object)
      throw std::runtime_error("an object of ROOT cannot be read");
   return std::unique_ptr<TObject>(object);
}

void Merge(TObject &into, TObject &more)
{
   TList others;
   others.Add(&more);
   if (auto histogram = dynamic_cast<TH1 *>(&into))
      histogram->Merge(&others);
   else if (auto graph = dynamic_cast<TGraph *>(&into))
      graph->Merge(&others);
   else
      dynamic_cast<TStatistic &>(into).Merge(&others);
   others.Clear("nodelete");
}

struct Graph {
   std::map<int, RNode> nodes;                 // by number; 0 is the dataset
   std::vector<std::function<void()>> results; // each fills gType and gData
   RNode &Head() { return nodes.at(0); }
};

// What a call has: the strings, of which a histogram's first two are its name and title, and its numbers.
struct Call {
   std::vector<std::string> strings;
   std::vector<double> numbers;
   const char *At(std::size_t i) const { return i < strings.size() ? strings[i].c_str() : ""; }
   std::size_t Strings() const { return strings.size(); }
   double operator[](std::size_t i) const { return numbers.at(i); }
   int Bins(std::size_t i) const { return static_cast<int>(numbers.at(i)); }
};

using Transformation = std::function<RNode(RNode &, const Call &)>;
using Action = std::function<std::function<void()>(RNode &, const Call &)>;

const std::map<std::string, Transformation> &Transformations()
{
   static const std::map<std::string, Transformation> known{
      {"Alias", [](RNode &n, const Call &c) { return RNode(n.Alias(c.At(0), c.At(1))); }},
      {"Define", [](RNode &n, const Call &c) { return RNode(n.Define(c.At(0), c.At(1))); }},
      {"DefinePerSample",
       [](RNode &n, const Call &c) { return RNode(n.DefinePerSample(c.At(0), c.At(1))); }},
      {"Filter", [](RNode &n, const Call &c) { return RNode(n.Filter(c.At(0), c.At(1))); }},
      {"FilterAvailable", [](RNode &n, const Call &c) { return RNode(n.FilterAvailable(c.At(0))); }},
      {"FilterMissing", [](RNode &n, const Call &c) { return RNode(n.FilterMissing(c.At(0))); }},
      {"Redefine", [](RNode &n, const Call &c) { return RNode(n.Redefine(c.At(0), c.At(1))); }},
   };
   return known;
}

template <typename T>
std::function<void()> Object(ROOT::RDF::RResultPtr<T> result)
{
   return [result]() mutable { Write(*result); };
}

std::function<void()> Number(ROOT::RDF::RResultPtr<double> result)
{
   return [result]() mutable {
      gType = "double";
      Append(*result);
   };
}

std::function<void()> Moments(ROOT::RDF::RResultPtr<double> result)
{
   return [result]() mutable {
      gType = "moments";
      for (double number : PyRDF::Moments(result))
         Append(number);
   };
}

std::function<void()> Cuts(ROOT::RDF::RResultPtr<ROOT::RDF::RCutFlowReport> result)
{
   return [result]() mutable {
      gType = "cuts";
      for (const auto &cut : *result) {
         Append<ULong64_t>(cut.GetPass());
         Append<ULong64_t>(cut.GetAll());
         gData.append(cut.GetName().c_str(), cut.GetName().size() + 1);
      }
   };
}

std::function<void()> Fills(RNode &node, const Call &c)
{
   auto result = node.Fill(PyRDF::Fills(), c.strings);
   return [result]() mutable {
      gType = "fills";
      const auto &numbers = result->Numbers();
      gData.assign(reinterpret_cast<const char *>(numbers.data()), numbers.size() * sizeof(double));
   };
}

std::function<void()> Histo1D(RNode &n, const Call &c)
{
   ROOT::RDF::TH1DModel model(c.At(0), c.At(1), c.Bins(0), c[1], c[2]);
   return Object(c.Strings() > 3 ? n.Histo1D(model, c.At(2), c.At(3)) : n.Histo1D(model, c.At(2)));
}

std::function<void()> Histo2D(RNode &n, const Call &c)
{
   ROOT::RDF::TH2DModel model(c.At(0), c.At(1), c.Bins(0), c[1], c[2], c.Bins(3), c[4], c[5]);
   return Object(c.Strings() > 4 ? n.Histo2D(model, c.At(2), c.At(3), c.At(4))
                                 : n.Histo2D(model, c.At(2), c.At(3)));
}

std::function<void()> Histo3D(RNode &n, const Call &c)
{
   ROOT::RDF::TH3DModel model(c.At(0), c.At(1), c.Bins(0), c[1], c[2], c.Bins(3), c[4], c[5], c.Bins(6),
                              c[7], c[8]);
   return Object(c.Strings() > 5 ? n.Histo3D(model, c.At(2), c.At(3), c.At(4), c.At(5))
                                 : n.Histo3D(model, c.At(2), c.At(3), c.At(4)));
}

std::function<void()> Profile1D(RNode &n, const Call &c)
{
   ROOT::RDF::TProfile1DModel model(c.At(0), c.At(1), c.Bins(0), c[1], c[2]);
   return Object(c.Strings() > 4 ? n.Profile1D(model, c.At(2), c.At(3), c.At(4))
                                 : n.Profile1D(model, c.At(2), c.At(3)));
}

std::function<void()> Profile2D(RNode &n, const Call &c)
{
   ROOT::RDF::TProfile2DModel model(c.At(0), c.At(1), c.Bins(0), c[1], c[2], c.Bins(3), c[4], c[5]);
   return Object(c.Strings() > 5 ? n.Profile2D(model, c.At(2), c.At(3), c.At(4), c.At(5))
                                 : n.Profile2D(model, c.At(2), c.At(3), c.At(4)));
}

std::function<void()> GraphAsymmErrors(RNode &n, const Call &c)
{
   return Object(n.GraphAsymmErrors(c.At(0), c.At(1), c.At(2), c.At(3), c.At(4), c.At(5)));
}

std::function<void()> Stats(RNode &n, const Call &c)
{
   return Object(c.Strings() > 1 ? n.Stats(c.At(0), c.At(1)) : n.Stats(c.At(0)));
}

std::function<void()> Count(RNode &n, const Call &)
{
   return [result = n.Count()]() mutable {
      gType = "count";
      Append<ULong64_t>(*result);
   };
}

const std::map<std::string, Action> &Actions()
{
   static const std::map<std::string, Action> known{
      {"Count", Count},
      {"Fills", Fills},
      {"Graph", [](RNode &n, const Call &c) { return Object(n.Graph(c.At(0), c.At(1))); }},
      {"GraphAsymmErrors", GraphAsymmErrors},
      {"Histo1D", Histo1D},
      {"Histo2D", Histo2D},
      {"Histo3D", Histo3D},
      {"Max", [](RNode &n, const Call &c) { return Number(n.Max(c.At(0))); }},
      {"Mean", [](RNode &n, const Call &c) { return Moments(n.Mean(c.At(0))); }},
      {"Min", [](RNode &n, const Call &c) { return Number(n.Min(c.At(0))); }},
      {"Profile1D", Profile1D},
      {"Profile2D", Profile2D},
      {"Report", [](RNode &n, const Call &) { return Cuts(n.Report()); }},
      {"Stats", Stats},
      {"StdDev", [](RNode &n, const Call &c) { return Moments(n.StdDev(c.At(0))); }},
      {"Sum", [](RNode &n, const Call &c) { return Number(n.Sum(c.At(0))); }},
   };
   return known;
}

Graph *Head(RNode &&node)
{
   auto graph = std::make_unique<Graph>();
   graph->nodes.emplace(0, std::move(node));
   return graph.release();
}
} // namespace

extern "C" {
const char *PyRDFError() { return gError.c_str(); }
const char *PyRDFType() { return gType.c_str(); }
const char *PyRDFData() { return gData.data(); }
std::size_t PyRDFSize() { return gData.size(); }

// The version of ROOT that this was compiled for, and that of the one that is loaded.
const char *PyRDFCompiledFor() { return ROOT_RELEASE; }
const char *PyRDFVersion() { return ROOT::GetROOT()->GetVersion(); }

// -- the interpreter ----------------------------------------------------------------------------

bool PyRDFStart()
{
   return Guarded([] {
      ROOT::GetROOT();
      gInterpreter->ProcessLine(".O 2"); // as Python has it
      // RTTreeDS asks for this class with each column; to find out that nobody has it takes the
      // interpreter 0.15 s, once: here, and not in each process that is forked from this one.
      TClass::GetClass(typeid(std::unordered_map<std::string, std::pair<std::string, unsigned>>));
   });
}
void PyRDFSetBatch() { ROOT::GetROOT()->SetBatch(true); }
bool PyRDFDeclare(const char *code) { return gInterpreter->Declare(code); }
void PyRDFProcess(const char *code) { gInterpreter->ProcessLine(code); }
void PyRDFAddIncludePath(const char *path) { gInterpreter->AddIncludePath(path); }
void PyRDFAddLibraryPath(const char *path) { gSystem->AddDynamicPath(path); }
int PyRDFLoad(const char *library, bool quiet)
{
   const auto level = gErrorIgnoreLevel;
   if (quiet)
      gErrorIgnoreLevel = kFatal;
   const auto status = gSystem->Load(library);
   gErrorIgnoreLevel = level;
   return status;
}
void PyRDFSeed(unsigned seed) { PyRDF::Seed(seed); }
void PyRDFSetDefault(const char *name, int value)
{
   if (!gEnv->Defined(name))
      gEnv->SetValue(name, value);
}
void PyRDFUseOneThread()
{
   if (ROOT::IsImplicitMTEnabled())
      ROOT::DisableImplicitMT();
}

// -- datasets -----------------------------------------------------------------------------------

// Lends the first entry of each cluster, and the number of entries, as signed 64-bit numbers.
bool PyRDFClusters(bool ntuple, const char *name, const char *path)
{
   return Guarded([=] {
      gData.clear();
      if (ntuple) {
         Append<Long64_t>(0);
         if (!ROOT::RNTupleReader::Open(name, path)->GetNEntries())
            return; // ROOT 6.40 aborts where there are no clusters
         for (const auto &cluster : ROOT::Internal::RDF::GetClustersAndEntries(name, path).first)
            Append<Long64_t>(cluster.fLastEntryPlusOne);
         return;
      }
      const auto [clusters, entries] = ROOT::Internal::TreeUtils::GetClustersAndEntries(name, path);
      if (entries)
         for (auto cluster : clusters)
            Append<Long64_t>(cluster);
      Append<Long64_t>(entries);
   });
}

Spec *PyRDFSpec() { return new Spec; }
void PyRDFFreeSpec(Spec *spec) { delete spec; }

// A sample; without metadata (null), one that the user has not named.
bool PyRDFAddSample(Spec *spec, const char *name, const char *metadata, Strings names, Strings paths,
                    std::size_t size)
{
   return Guarded([=] {
      ROOT::RDF::Experimental::RMetaData data;
      if (metadata)
         ROOT::Internal::RDF::ImportJSON(data, metadata);
      spec->AddSample(
         ROOT::RDF::Experimental::RSample(name, List(names, size), List(paths, size), data));
   });
}
bool PyRDFAddFriends(Spec *spec, Strings trees, std::size_t number, Strings files, std::size_t size,
                     const char *alias)
{
   return Guarded(
      [=] { spec->WithGlobalFriends(List(trees, number), List(files, size), std::string(alias)); });
}
bool PyRDFSetRange(Spec *spec, Long64_t begin, Long64_t end)
{
   return Guarded([=] { spec->WithGlobalRange({begin, end}); });
}

// -- graphs -------------------------------------------------------------------------------------

Graph *PyRDFOpenEmpty(ULong64_t entries)
{
   Graph *graph = nullptr;
   Guarded([&] { graph = Head(ROOT::RDataFrame(entries)); });
   return graph;
}
Graph *PyRDFOpenSpec(const Spec *spec)
{
   Graph *graph = nullptr;
   Guarded([&] { graph = Head(ROOT::RDataFrame(*spec)); });
   return graph;
}
Graph *
PyRDFOpenTree(const char *name, const char *path, Strings columns, std::size_t size)
{
   Graph *graph = nullptr;
   Guarded([&] { graph = Head(ROOT::RDataFrame(name, path, List(columns, size))); });
   return graph;
}
Graph *PyRDFOpenNTuple(const char *name, Strings paths, std::size_t size, ULong64_t begin, ULong64_t end)
{
   Graph *graph = nullptr;
   Guarded([&] {
      graph = Head(ROOT::Internal::RDF::FromRNTuple(name, List(paths, size), std::make_pair(begin, end)));
   });
   return graph;
}
void PyRDFFreeGraph(Graph *graph) { delete graph; }

bool PyRDFRebindEmpty(Graph *graph, ULong64_t begin, ULong64_t end)
{
   return Guarded([=] { ROOT::Internal::RDF::ChangeEmptyEntryRange(graph->Head(), {begin, end}); });
}
bool PyRDFRebindSpec(Graph *graph, const Spec *spec)
{
   return Guarded([=] { ROOT::Internal::RDF::ChangeSpec(graph->Head(), Spec(*spec)); });
}

bool PyRDFBook(Graph *graph, int number, int parent, const char *name, Strings strings,
               std::size_t nstrings, const double *numbers, std::size_t nnumbers)
{
   return Guarded([=] {
      const Call call{List(strings, nstrings), {numbers, numbers + nnumbers}};
      auto &node = graph->nodes.at(parent);
      if (auto found = Transformations().find(name); found != Transformations().end())
         graph->nodes.emplace(number, found->second(node, call));
      else
         graph->results.push_back(Actions().at(name)(node, call));
   });
}

// Compile all that it needs, and run nothing.
bool PyRDFJit(Graph *graph)
{
   return Guarded([=] { PyRDF::Jit(graph->Head()); });
}
bool PyRDFRun(Graph *graph)
{
   return Guarded([=] { ROOT::Internal::RDF::TriggerRun(graph->Head()); });
}

// Lends the value of the action that was booked as this one, and what type it is of.
bool PyRDFTake(Graph *graph, std::size_t which)
{
   return Guarded([=] {
      gData.clear();
      graph->results.at(which)();
   });
}

// -- values -------------------------------------------------------------------------------------

TObject *PyRDFRead(const char *data, std::size_t size)
{
   TObject *object = nullptr;
   Guarded([&] { object = Read(data, size).release(); });
   return object;
}
bool PyRDFWrite(const TObject *object)
{
   return Guarded([=] { Write(*object); });
}
bool PyRDFMerge(TObject *into, const char *data, std::size_t size)
{
   return Guarded([=] { Merge(*into, *Read(data, size)); });
}
void PyRDFFreeObject(TObject *object) { delete object; }

// Write a tree like this one, without its entries, into a new local file.
bool PyRDFCopyStructure(const char *name, const char *path, const char *to)
{
   return Guarded([=] {
      std::unique_ptr<TFile> file(TFile::Open(path));
      if (!file || file->IsZombie())
         throw std::runtime_error("it cannot be opened");
      auto tree = dynamic_cast<TTree *>(file->Get(name));
      if (!tree)
         throw std::runtime_error(std::string("there is no tree '") + name + "'");
      std::unique_ptr<TFile> copied(TFile::Open(to, "RECREATE"));
      if (!copied || copied->IsZombie())
         throw std::runtime_error(std::string(to) + " cannot be written");
      const std::string whole(name);
      const auto slash = whole.rfind('/');
      TDirectory *folder = copied.get();
      if (slash != std::string::npos)
         folder = copied->mkdir(whole.substr(0, slash).c_str());
      folder->cd();
      auto empty = tree->CloneTree(0);
      empty->SetName(whole.substr(slash + 1).c_str());
      empty->Write();
   });
}
}
