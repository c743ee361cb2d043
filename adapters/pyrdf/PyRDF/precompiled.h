// What most graphs need of RDataFrame's templates, compiled once.
//
// RDataFrame compiles a template for each expression and action, and Python one for each method it
// calls: some seconds before the first event (ROOT 6.40). Which, depends on the types of the columns
// alone. Here are the usual ones: compiled with PYRDF_DEFINE into a library, and only declared where
// the interpreter reads this, which then compiles what is not among them, as ever.
#ifndef PYRDF_PRECOMPILED
#define PYRDF_PRECOMPILED

#include <ROOT/RDataFrame.hxx>
#include <ROOT/RDF/InterfaceUtils.hxx>
#include <ROOT/RDF/RCutFlowReport.hxx>
#include <ROOT/RDF/RMergeableValue.hxx>
#include <ROOT/RDFHelpers.hxx>

#ifdef PYRDF_DEFINE
#define PYRDF_TEMPLATE template
#else
#define PYRDF_TEMPLATE extern template
#endif

namespace PyRDF {
namespace Types {
using Names = const std::vector<std::string> &;
using Register = ROOT::Internal::RDF::RColumnRegister;
using Loop = ROOT::Detail::RDF::RLoopManager;
using Filter = ROOT::Detail::RDF::RJittedFilter;
using Define = ROOT::Detail::RDF::RJittedDefine;
using Action = ROOT::Internal::RDF::RJittedAction;
using Tag = ROOT::Internal::RDF::DefineTypes::RDefineTag;
using Histo1D = ROOT::Internal::RDF::ActionTags::Histo1D;
using Floats = ROOT::VecOps::RVec<Float_t>;
using Doubles = ROOT::VecOps::RVec<Double_t>;
using Ints = ROOT::VecOps::RVec<Int_t>;
} // namespace Types
} // namespace PyRDF

PYRDF_TEMPLATE class ROOT::VecOps::RVec<Float_t>;
PYRDF_TEMPLATE class ROOT::VecOps::RVec<Double_t>;
PYRDF_TEMPLATE class ROOT::VecOps::RVec<Int_t>;

// Filters, by their arguments: as RDataFrame writes them.
#define PYRDF_FILTER(...)                                                                        \
   PYRDF_TEMPLATE void ROOT::Internal::RDF::JitFilterHelper<bool (&)(__VA_ARGS__)>(              \
      bool (&)(__VA_ARGS__), PyRDF::Types::Names, PyRDF::Types::Register &, PyRDF::Types::Loop &, \
      PyRDF::Types::Filter *);
PYRDF_FILTER(const Int_t)
PYRDF_FILTER(const UInt_t)
PYRDF_FILTER(const Float_t)
PYRDF_FILTER(const Double_t)
PYRDF_FILTER(const Bool_t)
PYRDF_FILTER(PyRDF::Types::Ints &)
PYRDF_FILTER(PyRDF::Types::Floats &)

// Definitions: what they return, and their arguments.
#define PYRDF_DEFINITION(RESULT, ...)                                                            \
   PYRDF_TEMPLATE void                                                                           \
   ROOT::Internal::RDF::JitDefineHelper<PyRDF::Types::Tag, RESULT (&)(__VA_ARGS__)>(             \
      RESULT (&)(__VA_ARGS__), PyRDF::Types::Names, PyRDF::Types::Register &,                    \
      PyRDF::Types::Loop &, PyRDF::Types::Define *);
PYRDF_DEFINITION(Float_t, PyRDF::Types::Floats &)
PYRDF_DEFINITION(Float_t, PyRDF::Types::Floats &, PyRDF::Types::Floats &, PyRDF::Types::Floats &,
                 PyRDF::Types::Floats &)
PYRDF_DEFINITION(PyRDF::Types::Floats, PyRDF::Types::Floats &)

#define PYRDF_HISTOGRAM(TYPE)                                                                    \
   PYRDF_TEMPLATE void ROOT::Internal::RDF::CallBuildAction<PyRDF::Types::Histo1D, TYPE>(        \
      PyRDF::Types::Names, PyRDF::Types::Register &, PyRDF::Types::Loop &,                       \
      PyRDF::Types::Action *, const unsigned int, std::shared_ptr<TH1D> *);
PYRDF_HISTOGRAM(Int_t)
PYRDF_HISTOGRAM(UInt_t)
PYRDF_HISTOGRAM(Float_t)
PYRDF_HISTOGRAM(Double_t)
PYRDF_HISTOGRAM(PyRDF::Types::Floats)

// The methods of nodes, which Python calls.
#define PYRDF_NODE(TYPE)                                                                         \
   PYRDF_TEMPLATE class ROOT::RDF::RInterface<TYPE>;                                             \
   PYRDF_TEMPLATE ROOT::RDF::RResultPtr<TH1D>                                                    \
   ROOT::RDF::RInterface<TYPE>::Histo1D<ROOT::Detail::RDF::RInferredType>(                       \
      const ROOT::RDF::TH1DModel &, std::string_view);                                           \
   PYRDF_TEMPLATE ROOT::RDF::RNode ROOT::RDF::AsRNode<ROOT::RDF::RInterface<TYPE>>(              \
      ROOT::RDF::RInterface<TYPE>);
PYRDF_NODE(ROOT::Detail::RDF::RLoopManager)
PYRDF_NODE(ROOT::Detail::RDF::RJittedFilter)
PYRDF_NODE(ROOT::Detail::RDF::RNodeBase)
PYRDF_TEMPLATE ROOT::RDF::RNode ROOT::RDF::AsRNode<ROOT::RDataFrame>(ROOT::RDataFrame);

PYRDF_TEMPLATE std::unique_ptr<ROOT::Detail::RDF::RMergeableValue<TH1D>>
ROOT::Detail::RDF::GetMergeableValue<TH1D>(ROOT::RDF::RResultPtr<TH1D> &);
PYRDF_TEMPLATE class std::vector<std::string>;
PYRDF_TEMPLATE class std::vector<ROOT::RDF::TCutInfo>;

#endif
