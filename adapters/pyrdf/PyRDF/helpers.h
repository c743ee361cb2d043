// The few lines of C++ that ROOT's interfaces leave to be written: read by the interpreter where Python
// calls them (`PyRDF.cpp`), and compiled into the library (`native.cpp`).
#ifndef PYRDF_HELPERS
#define PYRDF_HELPERS

#include <ROOT/RDF/RInterface.hxx>
#include <ROOT/RDF/RLoopManager.hxx>
#include <ROOT/RDF/RCutFlowReport.hxx>
#include <ROOT/RDF/RMergeableValue.hxx>
#include <ROOT/RResultPtr.hxx>
#include <TH1.h>
#include <TRandom.h>

namespace PyRDF {
using namespace ROOT::Detail::RDF;

// What is private in ROOT 6.40, and needed to merge without its faults: an explicit instantiation
// may name private members (C++17, [temp.explicit] 12).
template <typename Tag, typename Tag::Type M>
struct Open {
   friend typename Tag::Type Member(Tag) { return M; }
};
#define PYRDF_OPEN(TAG, CLASS, TYPE, MEMBER)          \
   struct TAG {                                       \
      using Type = TYPE CLASS::*;                     \
      friend Type Member(TAG);                        \
   };                                                 \
   template struct Open<TAG, &CLASS::MEMBER>;
PYRDF_OPEN(MeanCounts, RMergeableMean, ULong64_t, fCounts)
PYRDF_OPEN(StdDevCounts, RMergeableStdDev, ULong64_t, fCounts)
PYRDF_OPEN(StdDevMean, RMergeableStdDev, Double_t, fMean)
using ValueList = std::vector<std::unique_ptr<RMergeableValueBase>>;
PYRDF_OPEN(Values, RMergeableVariationsBase, ValueList, fValues)
PYRDF_OPEN(CutInfos, ROOT::RDF::RCutFlowReport, std::vector<ROOT::RDF::TCutInfo>, fCutInfos)
PYRDF_OPEN(CutName, ROOT::RDF::TCutInfo, std::string, fName)
PYRDF_OPEN(CutPass, ROOT::RDF::TCutInfo, ULong64_t, fPass)
PYRDF_OPEN(CutAll, ROOT::RDF::TCutInfo, ULong64_t, fAll)

// (value, entries, mean) of a Mean or a StdDev.
inline std::vector<double> MomentsOf(const RMergeableValueBase &value)
{
   if (auto mean = dynamic_cast<const RMergeableMean *>(&value))
      return {mean->GetValue(), static_cast<double>(mean->*Member(MeanCounts{})), mean->GetValue()};
   const auto &deviation = dynamic_cast<const RMergeableStdDev &>(value);
   return {deviation.GetValue(), static_cast<double>(deviation.*Member(StdDevCounts{})),
           deviation.*Member(StdDevMean{})};
}
inline std::vector<double> Moments(ROOT::RDF::RResultPtr<double> &result)
{
   return MomentsOf(*GetMergeableValue(result));
}
inline std::vector<double>
Moments(ROOT::RDF::Experimental::RResultMap<double> &results, unsigned which)
{
   auto variations = GetMergeableValue(results);
   return MomentsOf(*((*variations).*Member(Values{}))[which]);
}

inline void
AddCut(ROOT::RDF::RCutFlowReport &report, const std::string &name, ULong64_t pass, ULong64_t all)
{
   ROOT::RDF::TCutInfo cut;
   cut.*Member(CutName{}) = name;
   cut.*Member(CutPass{}) = pass;
   cut.*Member(CutAll{}) = all;
   (report.*Member(CutInfos{})).push_back(cut);
}

// Compile all that a graph needs, and run nothing.
struct Node : ROOT::RDF::RNode {
   static void Jit(ROOT::RDF::RNode &node) { (node.*&Node::GetLoopManager)()->Jit(); }
};
inline void Jit(ROOT::RDF::RNode node) { Node::Jit(node); }

inline void Seed(unsigned seed) { gRandom->SetSeed(seed); }

// An axis without limits depends on the order in which all entries come, so the fills are kept,
// and made again when all of them are together.
class Fills {
   std::vector<double> fNumbers;

public:
   template <typename... T>
   void Fill(T... numbers)
   {
      (fNumbers.push_back(static_cast<double>(numbers)), ...);
   }
   void Merge(const std::vector<Fills *> &others)
   {
      for (auto other : others)
         fNumbers.insert(fNumbers.end(), other->fNumbers.begin(), other->fNumbers.end());
   }
   void Reset() { fNumbers.clear(); } // variations start with a copy
   const std::vector<double> &Numbers() const { return fNumbers; }
};
inline void Refill(TH1 &histogram, const double *numbers, std::size_t size, int width)
{
   for (std::size_t at = 0; at + width <= size; at += width) {
      if (width == 1)
         histogram.Fill(numbers[at]);
      else
         histogram.Fill(numbers[at], numbers[at + 1]);
   }
}
} // namespace PyRDF

#endif
