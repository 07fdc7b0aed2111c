// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistryCanCut is Network {
    function testFuzz_canCut__only_at_cut_points(uint16 first, uint16 end) public {
        _registerModel(500);
        bool starts = first == 0 || first == 10 || first == 20;
        bool ends = end == 10 || end == 20 || end == 30;
        assertEq(models.canCut(modelId, first, end), starts && ends && first < end);
    }
}
