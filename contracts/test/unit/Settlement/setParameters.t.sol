// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementSetParameters is Network {
    function _p(address treasury, uint16 a, uint16 b, uint16 c) private pure returns (ISettlement.Parameters memory) {
        return ISettlement.Parameters(treasury, a, b, c);
    }

    function test_setParameters__by_governance__for_what_is_released_later() public {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        _govern(address(settlement), abi.encodeCall(settlement.setParameters, (_p(address(9), 0, 1_000, 0))));
        skip(51);
        assertEq(_release(batchId), 8.5 ether);
        assertEq(settlement.parameters().treasury, address(9));
    }

    function test_setParameters__out_of_bounds__reverts() public {
        vm.startPrank(address(timelock));
        vm.expectRevert(ISettlement.BadParameters.selector);
        settlement.setParameters(_p(address(0), 1, 1, 1));
        vm.expectRevert(ISettlement.BadParameters.selector);
        settlement.setParameters(_p(address(1), 1_000, 1_000, 1));
        settlement.setParameters(_p(address(1), 1_000, 999, 1));
        vm.stopPrank();
    }
}
