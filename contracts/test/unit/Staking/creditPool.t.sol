// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingCreditPool is Network {
    function test_creditPool__raises_what_shares_are_worth() public {
        _delegate(owner, 10 ether);
        _fund(address(staking), 5 ether);
        vm.prank(address(settlement));
        staking.creditPool(owner, 5 ether);
        assertApproxEqAbs(staking.delegationOf(owner, delegator), 15 ether, 2);
        _assertLedgers();
    }

    function test_creditPool__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.NotAllowed.selector, address(this)));
        staking.creditPool(owner, 1);
    }
}
